import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, fresh, refused } from "./checks.mjs";

describe("the ways to an actor", () => {
	test("get finds what create made", async () => {
		const key = fresh("created");
		const created = await client.counter.create(key);
		assert.equal(await created.increment(9), 9);
		assert.equal(await client.counter.get(key).increment(5), 14);
		assert.equal(await created.getCount(), 14);
	});

	test("getForId finds what resolve names", async () => {
		const handle = client.counter.getOrCreate(fresh("by id"));
		await handle.increment(3);
		const id = await handle.resolve();
		assert.match(id, /^[\w.~-]+$/);
		assert.equal(await client.counter.getForId(id).increment(4), 7);
	});

	test("getOrCreate makes one actor, for all handles", async () => {
		const key = fresh("made");
		await client.counter.getOrCreate(key).increment(7);
		const [one, other] = [client.counter.getOrCreate(key), client.counter.get(key)];
		assert.equal(await one.getCount(), 7);
		assert.equal(await other.increment(3), 10);
		assert.equal(await one.getCount(), 10);
	});

	test("an actor is created once", async () => {
		const key = fresh("twice");
		await (await client.counter.create(key)).increment(1);
		await refused(client.counter.create(key), "actor.duplicate_key");
		const other = fresh("of a handle");
		await client.counter.getOrCreate(other).increment(5);
		await refused(client.counter.create(other), "actor.duplicate_key");
		assert.equal(await client.counter.get(other).getCount(), 5);
	});

	test("get does not create", async () => {
		const key = fresh("missing");
		await refused(client.counter.get(key).resolve(), "actor.not_found");
		await client.counter.getOrCreate(key).increment(3);
		assert.equal(await client.counter.get(key).getCount(), 3);
	});

	test("parameters of connections are let pass", async () => {
		const params = { userId: "user-123", settings: { increment: 5 } };
		assert.equal(await client.counter.getOrCreate(fresh("params"), { params }).increment(1), 1);
	});
});

describe("keys", () => {
	test("parts with slashes stay apart", async () => {
		const key = ["tenant/with/slash", ...fresh("room")];
		assert.deepEqual(await client.counter.getOrCreate(key).getKey(), key);
	});

	test("only the same key is the same actor", async () => {
		const key = [...fresh("match"), "us-east"];
		await client.counter.getOrCreate(key).increment(10);
		assert.equal(await client.counter.getOrCreate([...key]).getCount(), 10);
		assert.equal(await client.counter.getOrCreate(key.slice(0, 2)).getCount(), 0);
		assert.equal(await client.counter.getOrCreate([...key, "more"]).getCount(), 0);
	});

	test("one text is a key of one part", async () => {
		const text = fresh("text").join("-");
		await client.counter.getOrCreate(text).increment(7);
		assert.equal(await client.counter.getOrCreate([text]).getCount(), 7);
	});

	test("no key, undefined and no parts are the same actor, which is none of those with a key", async () => {
		const before = await client.counter.getOrCreate().getCount();
		await client.counter.getOrCreate(undefined).increment(12);
		assert.equal(await client.counter.getOrCreate([]).getCount(), before + 12);
		assert.equal(await client.counter.getOrCreate(fresh("other")).getCount(), 0);
	});
});

describe("the input of an actor", () => {
	const input = { name: "given", value: 42, nested: { foo: "bar" } };

	test("create and getOrCreate give it to a new actor", async () => {
		const created = await client.inputActor.create(fresh("created"), { input });
		const key = fresh("made");
		const made = client.inputActor.getOrCreate(key, { createWithInput: input });
		for (const actor of [created, made, client.inputActor.getOrCreate(key, { createWithInput: "another" })])
			assert.deepEqual(await actor.getInputs(), { initialInput: input, onCreateInput: input });
	});

	test("without it there is none", async () => {
		assert.deepEqual(await (await client.inputActor.create(fresh("none"))).getInputs(), {});
	});
});

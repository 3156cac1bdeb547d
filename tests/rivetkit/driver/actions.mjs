import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, fresh, pause, refused, rejection } from "./checks.mjs";

describe("what actions return", () => {
	test("plain functions", async () => {
		const actor = client.syncActionActor.getOrCreate(fresh("sync"));
		assert.equal(await actor.increment(5), 5);
		assert.equal(await actor.increment(), 6);
		const info = await actor.getInfo();
		assert.deepEqual([info.currentValue, typeof info.timestamp], [6, "number"]);
		assert.equal(await actor.reset(), undefined);
		assert.equal(await actor.increment(0), 0);
		assert.equal(await client.syncTimeoutActor.getOrCreate(fresh("sync")).syncAction(), "sync response");
	});

	test("coroutines", async () => {
		const actor = client.asyncActionActor.getOrCreate(fresh("async"));
		assert.equal(await actor.delayedIncrement(5), 5);
		const data = await actor.fetchData("test-123");
		assert.deepEqual([data.id, typeof data.timestamp], ["test-123", "number"]);
		assert.equal(await actor.asyncWithError(false), "Success");
		assert.equal((await rejection(actor.asyncWithError(true))).message, "Intentional error");
		assert.equal(await client.defaultTimeoutActor.getOrCreate(fresh("default")).normalAction(), "normal response");
	});

	test("promises, fulfilled and rejected", async () => {
		const actor = client.promiseActor.getOrCreate(fresh("promise"));
		assert.equal(await actor.resolvedPromise(), "resolved value");
		assert.equal(await actor.delayedPromise(), "delayed value");
		assert.equal((await rejection(actor.rejectedPromise())).message, "promised rejection");
		assert.deepEqual(await actor.getResults(), ["delayed"]);
	});
});

test("actions with dotted names are called by path and by name, and check their arguments", async () => {
	const actor = client.nestedActionActor.getOrCreate(fresh("nested"));
	assert.equal(await actor.calculator.add(2), 2);
	assert.equal(await actor.action({ name: "calculator.add", args: [3] }), 5);
	assert.equal(await actor.calculator.read(), 5);
	await refused(actor.action({ name: "calculator.add", args: ["invalid"] }), "actor.validation_error");
});

test("actions of one actor run side by side", async () => {
	const actor = client.concurrentActionActor.getOrCreate(fresh("concurrent"));
	const slow = actor.runWithDelay("slow", 400);
	for (let events = []; events.length === 0; events = await actor.getEvents()) await pause(10);
	assert.equal(await actor.runWithDelay("fast", 0), "fast");
	assert.equal(await slow, "slow");
	assert.deepEqual(await actor.getEvents(), ["start:slow", "start:fast", "finish:fast", "finish:slow"]);
});

describe("large arguments and results", () => {
	const items = Array.from({ length: 20_000 }, (_, number) => `Item ${number} with some additional text to increase size`);

	for (const by of ["request", "connection"])
		test(`they come whole, also beyond RivetKit's own limits (${by})`, async () => {
			const handle = client.largePayloadConnActor.getOrCreate(fresh("large"));
			const actor = by === "request" ? handle : handle.connect();
			for (const count of [800, 20_000]) {
				const counted = { itemCount: count, firstItem: items[0], lastItem: items[count - 1] };
				assert.deepEqual(await actor.processLargeRequest({ items: items.slice(0, count) }), counted);
				assert.equal(await actor.getLastRequestSize(), count);
				assert.deepEqual((await actor.getLargeResponse(count)).items, items.slice(0, count));
			}
			if (by === "connection") await actor.dispose();
		});
});

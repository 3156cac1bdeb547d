import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, eventually, fresh, refused } from "./checks.mjs";

const MANY = Array.from({ length: 32 }, (_, number) => `cmd.${number}`);
const receiver = (name) => client.queueActor.getOrCreate(fresh(name));

describe("sending", () => {
	test("an action receives what the client sent", async () => {
		const actor = receiver("sent");
		await actor.send("greeting", { hello: "world" });
		assert.deepEqual(await actor.receiveOne("greeting"), { name: "greeting", body: { hello: "world" } });
	});

	test("an action receives what its own actor sent", async () => {
		const actor = receiver("own");
		await actor.sendToSelf("self", { value: 42 });
		assert.deepEqual(await actor.receiveOne("self"), { name: "self", body: { value: 42 } });
	});

	test("a full queue refuses the next message, and says its limit", async () => {
		const actor = client.queueLimitedActor.getOrCreate(fresh("full"));
		await actor.send("message", 1);
		const error = await refused(actor.send("message", 2), "queue.full");
		assert.match(error.message, /^Queue is full\. Limit is 1/);
		assert.equal(error.metadata.limit, 1);
	});

	test("a message that is too large is refused", async () => {
		const actor = client.queueLimitedActor.getOrCreate(fresh("large"));
		const error = await refused(actor.send("oversize", "a".repeat(200)), "queue.message_too_large");
		assert.equal(error.metadata.limit, 64);
	});
});

describe("receiving", () => {
	test("a batch comes from the named queues, in the order of sending", async () => {
		const actor = receiver("batch");
		for (const [queue, body] of [["a", 1], ["b", 2], ["c", 3]]) await actor.send(queue, body);
		const both = [{ name: "a", body: 1 }, { name: "b", body: 2 }];
		assert.deepEqual(await actor.receiveMany(["a", "b"], { count: 2 }), both);
		assert.deepEqual(await actor.receiveOne("c"), { name: "c", body: 3 });
	});

	for (const names of [["one", "two"], undefined])
		test(`a request for two comes from ${names ?? "all queues"}`, async () => {
			const actor = receiver("request");
			await actor.send("one", "first");
			await actor.send("two", "second");
			const both = [{ name: "one", body: "first" }, { name: "two", body: "second" }];
			assert.deepEqual(await actor.receiveRequest({ count: 2, ...(names && { names }) }), both);
		});

	test("nothing comes from an empty queue, after the timeout or at once", async () => {
		const actor = receiver("empty");
		assert.deepEqual(await actor.receiveMany(["missing"], { timeout: 50 }), []);
		assert.deepEqual(await actor.tryReceiveMany({ names: ["missing"], count: 1 }), []);
		assert.equal(await actor.receiveOne("missing", { timeout: 1 }), null);
	});

	test("an iterator takes what waits, from one queue or from all", async () => {
		const actor = receiver("iterator");
		await actor.send("one", "first");
		assert.deepEqual(await actor.receiveWithIterator("one"), { name: "one", body: "first" });
		await actor.send("two", "second");
		assert.deepEqual(await actor.receiveWithAsyncIterator(), { name: "two", body: "second" });
	});
});

describe("the end of a receive", () => {
	test("the caller of an actor that is destroyed meanwhile gets actor.aborted", async () => {
		await refused(receiver("aborted").waitForAbort(), "actor.aborted");
	});

	test("a signal that is set, and a destroyed actor, both end a receive that has a signal", async () => {
		const aborted = { group: "actor", code: "aborted" };
		assert.deepEqual(await receiver("signal").waitForSignalAbort(), aborted);
		assert.deepEqual(await receiver("destroyed").waitForActorAbortWithSignal(), aborted);
	});

	test("a signal that is set ends a loop without an error", async () => {
		assert.deepEqual(await receiver("loop").iterWithSignalAbort(), { ok: true });
	});
});

describe("waiting for the reply", () => {
	test("it comes when the message is completed", async () => {
		const actor = receiver("reply");
		const receiving = actor.receiveAndComplete("tasks");
		const result = await actor.send("tasks", { value: 123 }, { wait: true, timeout: 5_000 });
		assert.deepEqual(result, { status: "completed", response: { echo: { value: 123 } } });
		assert.deepEqual(await receiving, { name: "tasks", body: { value: 123 } });
	});

	for (const queue of ["timeout", "nowait"])
		test(`it times out where nothing takes the message of ${queue}, which stays`, async () => {
			const actor = receiver("timed out");
			const result = await actor.send(queue, { value: 456 }, { wait: true, timeout: 50 });
			assert.deepEqual(result, { status: "timedOut" });
			assert.deepEqual(await actor.receiveOne(queue), { name: queue, body: { value: 456 } });
		});
});

describe("completing", () => {
	test("a message that was not completed comes again", async () => {
		const actor = receiver("again");
		for (const [queue, receive] of [["tasks", "receiveWithoutComplete"], ["nowait", "receiveWithoutCompleteMethod"]]) {
			await actor.send(queue, { value: 789 });
			const first = await actor[receive](queue);
			if (queue === "nowait") assert.deepEqual(first, { hasComplete: true });
			assert.deepEqual(await actor.receiveOne(queue, { timeout: 1_000 }), { name: queue, body: { value: 789 } });
		}
	});

	test("the next message cannot be had before the last one is completed", async () => {
		const actor = receiver("incomplete");
		await actor.send("tasks", { value: 111 });
		const error = await actor.receiveManualThenNextWithoutComplete("tasks");
		assert.deepEqual(error, { group: "queue", code: "previous_message_not_completed" });
	});

	test("a message is completed only once", async () => {
		const actor = receiver("twice");
		await actor.send("twice", { value: "test" });
		const error = await actor.receiveAndCompleteTwice("twice");
		assert.deepEqual(error, { group: "queue", code: "already_completed" });
	});
});

describe("32 queues, while a connection is open", () => {
	async function drains(key) {
		const child = client.manyQueueChildActor.getOrCreate([key]);
		const connection = child.connect();
		assert.deepEqual(await connection.ping(), { label: key, pong: true });
		const bodies = Array.from({ length: 128 }, (_, index) => index);
		await Promise.all(bodies.map((index) => child.send(MANY[index % 32], { index })));
		const { processed } = await eventually(() => child.getSnapshot(), (found) => found.processed.length === 128);
		assert.deepEqual(new Set(processed), new Set(MANY));
		const result = await child.send(MANY[0], { index: 128 }, { wait: true, timeout: 5_000 });
		assert.deepEqual(result, { status: "completed", response: { ok: true, index: 128 } });
		await connection.dispose();
	}

	test("all messages to a child that an action made are handled", async () => {
		const [parent, key] = [client.manyQueueActionParentActor.getOrCreate(fresh("parent")), fresh("child").join("-")];
		assert.deepEqual(await parent.spawnChild(key), { key });
		await drains(key);
	});

	test("all messages to a child that a loop made are handled", async () => {
		const [parent, key] = [client.manyQueueRunParentActor.getOrCreate(fresh("parent")), fresh("child").join("-")];
		assert.deepEqual(await parent.queueSpawn(key), { queued: true });
		assert.deepEqual(await parent.getSpawned(), [key]);
		await drains(key);
	});
});

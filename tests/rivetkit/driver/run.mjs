import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, eventually, fresh, pause } from "./checks.mjs";

const SLEEP_TIMEOUT = 1_000;

describe("run", { concurrency: true }, () => {
	test("begins before the first action of the actor that it woke", async () => {
		const state = await client.runWithTicks.getOrCreate(fresh("begins")).getState();
		assert.deepEqual([state.runStarted, state.tickCount], [true, 1]);
	});

	test("goes on, and keeps the actor awake, for as long as it works", async () => {
		const actor = client.runWithTicks.getOrCreate(fresh("ticks"));
		const first = await eventually(() => actor.getState(), (state) => state.tickCount > 1);
		await pause(SLEEP_TIMEOUT + 300);
		const later = await actor.getState();
		assert.equal(later.runExited, false);
		assert.ok(later.tickCount > first.tickCount + 5, `${first.tickCount}, then ${later.tickCount} ticks`);
	});

	test("is not needed: an actor without it sleeps and is woken", async () => {
		const actor = client.runWithoutHandler.getOrCreate(fresh("without"));
		assert.equal((await actor.getState()).wakeCount, 1);
		await pause(SLEEP_TIMEOUT + 500);
		const state = await actor.getState();
		assert.deepEqual([state.wakeCount, state.sleepCount], [2, 1]);
	});

	test("takes messages in the order of sending", async () => {
		const actor = client.runWithQueueConsumer.getOrCreate(fresh("consumer"));
		const bodies = [1, 2, 3].map((value) => ({ type: "test", value }));
		for (const body of bodies) assert.equal(await actor.sendMessage(body), true);
		const state = await eventually(() => actor.getState(), (found) => found.messagesReceived.length === 3);
		assert.deepEqual(state.messagesReceived, bodies.map((body) => ({ name: "messages", body })));
	});

	test("that only waits for messages lets the actor sleep, and begins again when it wakes", async () => {
		const actor = client.runWithQueueConsumer.getOrCreate(fresh("waiting"));
		const before = await eventually(() => actor.getState(), (state) => state.runStarted);
		await pause(SLEEP_TIMEOUT + 500);
		const after = await actor.getState();
		assert.ok(after.wakeCount > before.wakeCount);
		await actor.sendMessage("later");
		await eventually(() => actor.getState(), (state) => state.messagesReceived.length === 1);
	});

	test("that ends early does not end its actor, which sleeps and is woken", async () => {
		const observer = client.lifecycleObserver.getOrCreate(["run-with-early-exit"]);
		const actor = client.runWithEarlyExit.getOrCreate(fresh("early"));
		const id = await actor.resolve();
		assert.equal((await actor.getState()).runStarted, true);
		const isSleep = (event) => event.actorKey === id && event.event === "sleep";
		await eventually(() => observer.getEvents(), (events) => events.some(isSleep));
		const state = await actor.getState();
		assert.equal(state.destroyCalled, false);
		assert.ok(state.sleepCount > 0 && state.wakeCount > 1);
	});

	test("that fails does not end its actor: it is started again", async () => {
		const actor = client.runWithError.getOrCreate(fresh("fails"));
		assert.equal((await actor.getState()).runStarted, true);
		await pause(SLEEP_TIMEOUT + 500);
		const state = await actor.getState();
		assert.deepEqual([state.runStarted, state.destroyCalled], [true, false]);
	});

	test("may put its own actor to sleep, and begins again when it wakes", async () => {
		const actor = client.runSelfInitiatedSleep.getOrCreate(fresh("self"));
		const state = await eventually(() => actor.getState(), (found) => found.sleepCount === 1 && found.runCount === 2);
		assert.deepEqual([state.marker, state.wakeCount], ["slept", 2]);
	});
});

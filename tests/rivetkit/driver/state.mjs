import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, eventually, fresh, pause } from "./checks.mjs";

describe("state", () => {
	test("is the same for all handles, and apart for other actors", async () => {
		const [one, other] = [fresh("one"), fresh("other")];
		assert.equal(await client.counter.getOrCreate(one).increment(5), 5);
		assert.equal(await client.counter.getOrCreate(other).increment(10), 10);
		assert.equal(await client.counter.getOrCreate(one).increment(3), 8);
		assert.equal(await client.counter.getOrCreate(other).increment(0), 10);
	});

	test("is kept while the actor sleeps because it was told to", async () => {
		const actor = client.sleep.getOrCreate(fresh("told"));
		assert.deepEqual(await actor.getCounts(), { startCount: 1, sleepCount: 0 });
		await actor.triggerSleep();
		const counts = await eventually(() => actor.getCounts(), (found) => found.sleepCount > 0);
		assert.deepEqual(counts, { startCount: 2, sleepCount: 1 });
	});

	test("is kept while the actor sleeps because it was idle, and for its alarm it wakes", async () => {
		const actor = client.sleep.getOrCreate(fresh("idle"));
		await actor.setAlarm(1_300);
		await pause(2_600);
		const { startCount, sleepCount } = await actor.getCounts();
		assert.ok(sleepCount > 0, "it did not sleep");
		assert.equal(startCount, sleepCount + 1);
	});

	test("is kept when a connection closes", async () => {
		const handle = client.sleep.getOrCreate(fresh("closed"));
		const connection = handle.connect();
		await connection.getCounts();
		await connection.triggerSleep();
		await connection.dispose();
		const counts = await eventually(() => handle.getCounts(), (found) => found.sleepCount === 1);
		assert.equal(counts.startCount, 2);
	});

	test("has its defaults, and what was set, with its types, after a sleep", async () => {
		const actor = client.stateZodCoercionActor.getOrCreate(fresh("typed"));
		assert.deepEqual(await actor.getState(), { count: 0, label: "default" });
		await actor.setCount(42);
		await actor.setLabel("custom");
		await actor.triggerSleep();
		assert.deepEqual(await actor.getState(), { count: 42, label: "custom" });
	});

	test("is missing where the class declares none, which is an error", async () => {
		const key = fresh("stateless");
		const actor = client.statelessActor.getOrCreate(key);
		assert.deepEqual([await actor.ping(), await actor.echo("Hello")], ["pong", "Hello"]);
		const found = await actor.tryGetState();
		assert.equal(found.success, false);
		assert.match(found.error, /state/);
		assert.notEqual(await actor.getActorId(), await client.statelessActor.getOrCreate(fresh("another")).getActorId());
	});
});

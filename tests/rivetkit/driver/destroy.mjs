import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, eventually, fresh, refused } from "./checks.mjs";

/** The key and a handle of an actor that was destroyed after its value was set. */
async function destroyed({ connected = false, created = false } = {}) {
	const key = fresh("destroyed");
	const handle = created ? await client.destroyActor.create(key) : client.destroyActor.getOrCreate(key);
	const actor = connected ? handle.connect() : handle;
	assert.equal(await actor.setValue(42), 42);
	assert.equal(await actor.setEphemeral("dirty"), "dirty");
	const id = await handle.resolve();
	await actor.destroy();
	if (connected) await actor.dispose();
	const observer = client.destroyObserver.getOrCreate(["observer"]);
	await eventually(() => observer.wasDestroyed(key.join("/")), (was) => was);
	await eventually(
		() => client.destroyActor.getForId(id).getValue().catch((error) => error),
		(found) => found.code === "not_found",
	);
	return { key, handle, id };
}

describe("a destroyed actor", () => {
	for (const how of [{}, { connected: true }, { created: true }])
		test(`is gone, and a new one with its key begins afresh (${Object.keys(how)[0] ?? "by a request"})`, async () => {
			const { key, id } = await destroyed(how);
			await refused(client.destroyActor.getForId(id).getValue(), "actor.not_found");
			await refused(client.destroyActor.get(key).resolve(), "actor.not_found");
			const again = how.created ? await client.destroyActor.create(key) : client.destroyActor.getOrCreate(key);
			await again.resolve();
			assert.deepEqual([await again.getValue(), await again.getEphemeral()], [0, "fresh"]);
		});

	test("is made again by what an older handle calls", async () => {
		const { handle } = await destroyed();
		assert.equal(await handle.getValue(), 0);
	});

	test("is made again by what an older handle sends", async () => {
		const { handle } = await destroyed();
		await handle.send("values", 11);
		assert.equal(await handle.receiveValue(), 11);
	});

	test("is made again by an older handle that connects", async () => {
		const { handle } = await destroyed();
		const connection = handle.connect();
		assert.equal(await connection.getValue(), 0);
		await connection.dispose();
	});

	test("is found by an older handle of get, once it was made again", async () => {
		const key = fresh("found");
		const creator = client.destroyActor.getOrCreate(key);
		await creator.setValue(222);
		const handle = client.destroyActor.get(key);
		assert.equal(await handle.getValue(), 222);
		await creator.destroy();
		const observer = client.destroyObserver.getOrCreate(["observer"]);
		await eventually(() => observer.wasDestroyed(key.join("/")), (was) => was);
		const again = client.destroyActor.getOrCreate(key);
		assert.equal(await again.getValue(), 0);
		assert.equal(await handle.getValue(), 0);
		assert.equal(await handle.resolve(), await again.resolve());
	});
});

test("the action that asks for the end returns", async () => {
	const key = fresh("asks");
	const returned = await client.destroyAbortSignalActor.getOrCreate(key).requestDestroy();
	assert.equal(returned.beforeDestroyAborted, false);
	const observer = client.destroyObserver.getOrCreate(["observer"]);
	await eventually(() => observer.wasDestroyed(key.join("/")), (was) => was);
});

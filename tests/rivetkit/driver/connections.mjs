import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, eventually, fresh } from "./checks.mjs";

const counter = () => client.counter.getOrCreate(fresh("connection"));

describe("the ways to a connection", () => {
	test("every kind of handle connects to the same actor", async () => {
		const key = fresh("kinds");
		const created = await client.counter.create(key);
		const id = await created.resolve();
		const handles = [created, client.counter.get(key), client.counter.getOrCreate(key), client.counter.getForId(id)];
		for (const [number, handle] of handles.entries()) {
			const connection = handle.connect();
			assert.equal(await connection.increment(1), number + 1);
			assert.equal(connection.actorId, id);
			await connection.dispose();
		}
	});
});

describe("events", () => {
	const collected = (connection) => {
		const seen = [];
		connection.on("newCount", (count) => seen.push(count));
		return seen;
	};

	test("come from the first action on, whether it was called here or elsewhere", async () => {
		const handle = counter();
		const connection = handle.connect();
		const seen = collected(connection);
		await connection.setCount(1);
		await handle.setCount(2);
		await handle.setCount(3);
		await eventually(() => seen, (events) => events.length === 3);
		assert.deepEqual(seen, [1, 2, 3]);
		await connection.dispose();
	});

	test("come to each connection, in order", async () => {
		const handle = counter();
		const connections = [handle.connect(), handle.connect()];
		const seen = connections.map(collected);
		await Promise.all(connections.map((connection) => connection.getCount()));
		for (let count = 1; count <= 20; count++) await handle.setCount(count);
		const counts = Array.from({ length: 20 }, (_, number) => number + 1);
		await eventually(() => seen, (both) => both.every((events) => events.length === 20));
		assert.deepEqual(seen, [counts, counts]);
		for (const connection of connections) await connection.dispose();
	});

	test("are heard of once by once()", async () => {
		const connection = counter().connect();
		const seen = [];
		const first = new Promise((resolve) =>
			connection.once("newCount", (count) => {
				seen.push(count);
				resolve(count);
			}),
		);
		await connection.increment(5);
		await connection.increment(3);
		assert.equal(await first, 5);
		assert.deepEqual(seen, [5]);
		await connection.dispose();
	});

	test("are not heard of any more once the listener is gone", async () => {
		const connection = counter().connect();
		const [gone, staying] = [[], collected(connection)];
		const stop = connection.on("newCount", (count) => gone.push(count));
		await connection.setCount(5);
		await eventually(() => gone, (events) => events.length === 1);
		stop();
		await connection.setCount(8);
		await eventually(() => staying, (events) => events.length === 2);
		assert.deepEqual(gone, [5]);
		await connection.dispose();
	});
});

describe("the state of a connection", () => {
	test("it is open once ready, and not before or after", async () => {
		const connection = counter().connect();
		assert.equal(connection.isConnected, false);
		const ready = connection.ready;
		assert.equal(connection.ready, ready);
		await ready;
		assert.deepEqual([connection.isConnected, connection.connStatus], [true, "connected"]);
		await connection.dispose();
		assert.equal(connection.isConnected, false);
	});

	test("listeners hear of its opening, its changes and its end, unless they have stopped", async () => {
		const connection = counter().connect();
		const [heard, missed] = [[], []];
		const stops = [connection.onOpen(() => missed.push("open")), connection.onClose(() => missed.push("close"))];
		for (const stop of stops) stop();
		for (const number of [1, 2]) {
			connection.onOpen(() => heard.push(`open ${number}`));
			connection.onClose(() => heard.push(`close ${number}`));
		}
		const statuses = [];
		const stop = connection.onStatusChange((status) => statuses.push(status));
		await connection.increment(1);
		assert.deepEqual(heard, ["open 1", "open 2"]);
		assert.ok(statuses.includes("connected"));
		stop();
		const before = [...statuses];
		await connection.dispose();
		assert.deepEqual(heard, ["open 1", "open 2", "close 1", "close 2"]);
		assert.deepEqual([statuses, missed], [before, []]);
	});

	test("parameters that cannot be had are an error, and the connection is tried again", async () => {
		let attempts = 0;
		const getParams = async () => {
			attempts += 1;
			if (attempts === 1) throw new Error("token unavailable");
			return { name: "user1" };
		};
		const connection = client.counter.getOrCreate(fresh("params"), { getParams }).connect();
		const codes = [];
		connection.onError((error) => codes.push(`${error.group}.${error.code}`));
		await assert.rejects(connection.getCount(), { group: "client", code: "get_params_failed" });
		await eventually(() => connection.getCount().catch(() => null), (count) => count === 0);
		assert.deepEqual(codes, ["client.get_params_failed"]);
		await connection.dispose();
	});
});

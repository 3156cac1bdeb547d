// Runs one scenario with RivetKit's own client and prints what it saw as a line of JSON.
import { createClient } from "rivetkit/client";

const [endpoint, token, encoding, scenario] = process.argv.slice(2);
const client = createClient({ endpoint, token, encoding });
const runner = client.taskRunner.getOrCreate(["main", encoding]);

async function errorOf(promise) {
	try {
		return { returned: await promise };
	} catch (error) {
		return { group: error.group, code: error.code, message: error.message, metadata: error.metadata };
	}
}

const shown = (value) =>
	JSON.parse(
		JSON.stringify(value, (key, value) => {
			if (value === undefined) return "undefined";
			if (typeof value === "bigint") return `BigInt ${value}`;
			if (value instanceof Uint8Array) return `Uint8Array ${[...value]}`;
			if (value instanceof Set) return `Set ${[...value].sort()}`;
			return value;
		}) ?? '"undefined"',
	);

const scenarios = {
	// The three programs of RivetKit's page on queues, but for url and token.
	async serialize() {
		for (const prompt of ["Review PR #123", "Fix the flaky test in auth.test.ts", "Update the README"])
			await runner.send("tasks", { prompt });
		return await runner.send("tasks", { prompt: "last" }, { wait: true, timeout: 20_000 });
	},
	async reply() {
		const reviewed = await runner.send("review", { file: "/home/user/src/auth.ts" }, { wait: true, timeout: 20_000 });
		return reviewed.status === "completed" ? reviewed.response.summary : reviewed;
	},
	async ingest() {
		await runner.ingestIssue("Login redirect broken", "Users are redirected to /undefined");
		return await runner.issues();
	},
	async errors() {
		return {
			full: [await errorOf(runner.send("small", 1)), await errorOf(runner.send("small", 2))],
			large: await errorOf(runner.send("short", "x".repeat(200))),
			queue: await errorOf(runner.send("nowhere", 1)),
			action: await errorOf(runner.nowhere()),
			user: await errorOf(runner.fail("user")),
			internal: await errorOf(runner.fail("otherwise")),
			failed: await errorOf(runner.send("failing", 1, { wait: true })),
			timedOut: await runner.send("nobody", 1, { wait: true, timeout: 30 }),
			missing: await errorOf(client.taskRunner.getForId("taskRunner.never").echo(1)),
			twice: [
				await errorOf(client.taskRunner.create(["twice", encoding]).then(() => "created")),
				await errorOf(client.taskRunner.create(["twice", encoding]).then(() => "created")),
			],
		};
	},
	async values() {
		const values = {
			null: null,
			undefined: undefined,
			bool: [true, false],
			numbers: [0, -1, 2 ** 32, -(2 ** 40), 2 ** 53, 1.5, -1e300, 1700000000123],
			text: "zażółć 日本 \u0000 🙂",
			tagged: [["$Set", 1], ["$$x", 2], ["$", 3]],
			bytes: new Uint8Array([0, 255]),
			big: 12345678901234567890n,
			nested: { a: [{ b: {} }, []] },
		};
		if (encoding !== "json") values.set = new Set([1, "a"]);
		if (encoding !== "json") values.date = new Date(1700000000123);
		const body = { numbers: values.numbers, text: values.text, tagged: values.tagged, null: null, nested: values.nested };
		const replied = await runner.send("tasks", body, { wait: true, timeout: 20_000 });
		return {
			sent: shown(values),
			returned: shown(await runner.echo(values)),
			void: shown(await runner.nothing()),
			null: shown(await runner.maybe()),
			body: JSON.stringify(replied.response.echo) === JSON.stringify(body),
		};
	},
	async handles() {
		const keys = Array.from({ length: 100 }, (_, number) => String(number));
		const totals = await Promise.all(keys.map((key) => client.taskRunner.getOrCreate(["many", encoding, key]).add(Number(key))));
		const sent = await Promise.all(
			keys.map((key) => client.taskRunner.getOrCreate(["many", encoding, key]).send("tasks", key, { wait: true, timeout: 60_000 })),
		);
		return { totals, replies: sent.map((result) => result.response.echo) };
	},
	async keys() {
		const names = [["a/b"], ["a", "b"], ["a/b", "c"], ["a", "b/c"], ["a\\", "b"], ["%2F"], ["ü", "🙂"], [".."], [""], []];
		const seen = [];
		for (const key of names) {
			const handle = client.taskRunner.getOrCreate([encoding, ...key]);
			await handle.add(1);
			const byId = client.taskRunner.getForId(await handle.resolve());
			seen.push([await byId.add(1), await byId.ownKey()]);
		}
		const comma = await client.taskRunner.create([encoding, "x,y"]);
		const parts = await client.taskRunner.create([encoding, "x", "y"]);
		await comma.add(5);
		return { seen, names, comma: [await comma.ownKey(), await parts.ownKey(), await parts.add(1)] };
	},
	async events() {
		const connection = runner.connect();
		const seen = [];
		connection.on("added", (event) => seen.push(event.value));
		const first = await connection.add(1);
		const error = await errorOf(connection.fail("user"));
		const many = await Promise.all([1, 1, 1].map((number) => connection.add(number)));
		for (let waited = 0; seen.length < 3 && waited < 200; waited++) await new Promise((done) => setTimeout(done, 50));
		await connection.dispose();
		return { first, error, many, seen: seen.slice(-3) };
	},
	async waiting() {
		const result = await errorOf(runner.send("slow", 1, { wait: true, timeout: 60_000 }));
		return result;
	},
	async refused() {
		return await errorOf(runner.echo(1));
	},
};

process.stdout.write(`${JSON.stringify(await scenarios[scenario]())}\n`);
process.exit(0);

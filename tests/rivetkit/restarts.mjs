// What RivetKit's client does while the host is ended and started again. Prints what it saw as a line of JSON.
import { createClient } from "rivetkit/client";
import { withClient } from "./recipe.mjs";

const [endpoint, token, encoding, scenario] = process.argv.slice(2);
const client = createClient({ endpoint, token, encoding, disableMetadataLookup: true });
const ask = withClient(client);
const reviewer = client.reviewer.getOrCreate(["js"]);

async function errorOf(promise) {
	try {
		return { returned: await promise };
	} catch (error) {
		return { group: error.group, code: error.code, message: error.message };
	}
}

const scenarios = {
	async plain() {
		return await errorOf(reviewer.send("held", 3, { wait: true, timeout: 60_000 }));
	},
	async keyed() {
		return await ask(client.reviewer, ["js"], "held", 3);
	},
	async many() {
		const bodies = Array.from({ length: 20 }, (_, number) => ({ prompt: `task ${number}` }));
		const held = ask(client.reviewer, ["js"], "held", 3);
		const results = await Promise.all(bodies.map((body) => ask(client.reviewer, ["js"], "tasks", body)));
		return { held: await held, replies: results.map((result) => result.response.verdict) };
	},
	async events() {
		const [seen, statuses] = [[], []];
		let connection;
		const listen = () => {
			connection = reviewer.connect();
			connection.on("added", (event) => seen.push(event.value));
			connection.onStatusChange((status) => {
				statuses.push(status);
				if (status === "idle") setTimeout(listen, 250);
			});
		};
		listen();
		while (seen.length === 0) await connection.add(1);
		process.stdout.write("connected\n");
		const rejected = await errorOf(connection.sleepFor(3600));
		const before = seen.length;
		while (seen.length === before) {
			await errorOf(reviewer.add(1));
			await new Promise((done) => setTimeout(done, 100));
		}
		return { rejected, statuses };
	},
};

process.stdout.write(`${JSON.stringify(await scenarios[scenario]())}\n`);
process.exit(0);

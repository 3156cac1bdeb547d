// RivetKit's own client: how long sends and requests take one after the other, and how many sends a second 64 make.
import { createClient } from "rivetkit/client";

const [endpoint, token, sends, seconds] = process.argv.slice(2);
const client = createClient({ endpoint, token: token || undefined, encoding: "bare" });
const runner = client.runner.getOrCreate(["measured"]);
const body = { prompt: "x".repeat(180) };

async function each(count, work) {
	const taken = [];
	for (let number = 0; number < count; number++) {
		const begun = performance.now();
		await work();
		taken.push((performance.now() - begun) / 1000);
	}
	return taken;
}

const send = () => runner.send("tasks", body);
const ask = () => runner.send("asked", body, { wait: true, timeout: 20_000 });
// RivetKit's server answers before it can run actors.
for (let tries = 0; ; tries++) {
	try {
		await send();
		break;
	} catch (error) {
		if (tries === 60) throw error;
		await new Promise((resolve) => setTimeout(resolve, 500));
	}
}
await each(5, send);
await each(5, ask);
const printed = { send: await each(Number(sends), send), ask: await each(Number(sends), ask) };

let sent = 0;
const ends = performance.now() + Number(seconds) * 1000;
await Promise.all(
	Array.from({ length: 64 }, async () => {
		while (performance.now() < ends) {
			await send();
			sent += 1;
		}
	}),
);
console.log(JSON.stringify({ ...printed, rate: sent / Number(seconds) }));
process.exit(0);

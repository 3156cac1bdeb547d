// The same actor as in gateway_host.py, on RivetKit's own local server.
import { actor, queue, setup } from "rivetkit";

const runner = actor({
	state: {},
	queues: { tasks: queue(), asked: queue() },
	run: async (context) => {
		for await (const message of context.queue.iter({ completable: true })) await message.complete({ ok: true });
	},
});
setup({ use: { runner } }).start();

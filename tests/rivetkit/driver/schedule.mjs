import assert from "node:assert/strict";
import { test } from "node:test";
import { client, eventually, fresh } from "./checks.mjs";

const schedules = {
	"at a time": (actor) => actor.scheduleTaskAt(Date.now() + 250),
	"after a delay": (actor) => actor.scheduleTaskAfter(250),
};

for (const [name, schedule] of Object.entries(schedules))
	test(`a call that was scheduled ${name} is made once, and not before`, async () => {
		const actor = client.scheduled.getOrCreate(fresh(name));
		const begun = Date.now();
		const due = await schedule(actor);
		await eventually(() => actor.getScheduledCount(), (count) => count > 0);
		assert.equal(await actor.getScheduledCount(), 1);
		const [ran, earliest] = [await actor.getLastRun(), Math.min(due, begun + 250)];
		assert.ok(ran >= earliest - 5, `${ran} is before ${earliest}`);
	});

test("calls are made in the order of their times, not of their scheduling", async () => {
	const actor = client.scheduled.getOrCreate(fresh("order"));
	await actor.clearHistory();
	for (const [task, delay] of [["third", 900], ["first", 300], ["second", 600]])
		assert.equal((await actor.scheduleTaskAfterWithId(task, delay)).taskId, task);
	const history = await eventually(() => actor.getTaskHistory(), (tasks) => tasks.length === 3);
	assert.deepEqual(history, ["first", "second", "third"]);
});

test("connections hear of what a scheduled call broadcasts", async () => {
	const connection = client.scheduled.getOrCreate(fresh("broadcast")).connect();
	const heard = new Promise((resolve) => connection.once("scheduledWithId", resolve));
	connection.on("scheduled", (event) => assert.equal(event.count, 1));
	await connection.scheduleTaskAfter(50);
	await eventually(() => connection.getScheduledCount(), (count) => count === 1);
	assert.equal(await Promise.race([heard, "nothing of other events"]), "nothing of other events");
	await connection.dispose();
});

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { client, fresh, refused, rejection } from "./checks.mjs";

const failing = () => client.errorHandlingActor.getOrCreate(fresh("errors"));

describe("errors of actions, by a request and over a connection", () => {
	for (const by of ["request", "connection"]) {
		const caller = by === "request" ? failing : () => failing().connect();
		const called = async (check) => {
			const actor = caller();
			await check(actor);
			if (by === "connection") await actor.dispose();
		};

		test(`a user's error keeps its text (${by})`, () =>
			called(async (actor) => {
				const error = await rejection(actor.throwSimpleError());
				assert.deepEqual([error.message, error.code], ["Simple error message", "user_error"]);
				assert.equal(error.metadata ?? undefined, undefined);
			}));

		test(`a user's error keeps its code and its metadata (${by})`, () =>
			called(async (actor) => {
				const error = await rejection(actor.throwDetailedError());
				assert.deepEqual([error.message, error.code], ["Detailed error message", "detailed_error"]);
				assert.equal(error.metadata.reason, "test");
				assert.ok(Math.abs(Date.now() - error.metadata.timestamp) < 60_000);
			}));

		test(`any other error says nothing of itself (${by})`, () =>
			called(async (actor) => {
				const error = await refused(actor.throwInternalError(), "rivetkit.internal_error");
				assert.equal(error.message, "An internal error occurred");
			}));

		test(`an action that takes too long has timed out, and one that does not returns (${by})`, () =>
			called(async (actor) => {
				const error = await refused(actor.timeoutAction(), "actor.action_timed_out");
				assert.match(error.message, /Action timed out/);
				assert.equal(await actor.delayedAction(100), "Completed after 100ms");
			}));

		test(`an actor goes on after its errors (${by})`, () =>
			called(async (actor) => {
				await rejection(actor.throwSimpleError());
				await rejection(actor.throwInternalError());
				assert.equal(await actor.successfulAction(), "success");
			}));

		test(`an action that does not exist is not found (${by})`, () =>
			called((actor) => refused(actor.doesNotExist(), "actor.action_not_found")));
	}
});

test("each class has its own time limit", async () => {
	const custom = client.customTimeoutActor.getOrCreate(fresh("custom"));
	await refused(custom.slowAction(), "actor.action_timed_out");
	assert.equal(await custom.quickAction(), "Quick action completed");
	await refused(client.shortTimeoutActor.getOrCreate(fresh("short")).slowAction(), "actor.action_timed_out");
	assert.equal(await client.longTimeoutActor.getOrCreate(fresh("long")).delayedAction(), "delayed response");
});

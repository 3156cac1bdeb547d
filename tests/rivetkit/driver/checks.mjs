// The client under test, and what the tests of all subjects need.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after } from "node:test";
import { createClient } from "rivetkit/client";

const { ENDPOINT: endpoint, TOKEN: token, ENCODING: encoding } = process.env;

export const client = createClient({ endpoint, token, encoding });
after(() => client.dispose());

/** A key that no other test has. */
export const fresh = (name) => [name, randomUUID()];

export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** What the promise is rejected with. */
export async function rejection(promise) {
	let value;
	try {
		value = await promise;
	} catch (error) {
		return error;
	}
	assert.fail(`it was not rejected, but returned ${JSON.stringify(value)}`);
}

/** Checks that the promise is rejected with this code: "queue.full". */
export async function refused(promise, code) {
	const error = await rejection(promise);
	assert.equal(`${error.group}.${error.code}`, code, error.message);
	return error;
}

/** What `read` returns, once it fulfils the condition. */
export async function eventually(read, isTrue, within = 15_000) {
	const end = Date.now() + within;
	for (;;) {
		const found = await read();
		if (isTrue(found)) return found;
		if (Date.now() > end) assert.fail(`it stayed ${JSON.stringify(found)}`);
		await pause(25);
	}
}

// In place of RivetKit's source: the client as it comes from npm, with the token of the host that its test has started.
import { createClient as create } from "rivetkit/client";

export * from "rivetkit/client";

export const tokens = new Map();

export function createClient(options) {
	return create({ ...options, token: tokens.get(options.endpoint) });
}

// In place of RivetKit's engine and runtimes: a fresh host of this package for each test.
import { tokens } from "./client.mjs";

export const TOKEN = "unused";

async function start() {
	const response = await fetch(`${process.env.FRESH_HOSTS}/hosts`, { method: "POST" });
	const { id, endpoint, token } = await response.json();
	tokens.set(endpoint, token);
	return {
		endpoint,
		namespace: "default",
		runnerName: "default",
		cleanup: () => fetch(`${process.env.FRESH_HOSTS}/hosts/${id}`, { method: "DELETE" }),
	};
}

export const createNativeDriverTestConfig = ({ encoding, ...options }) => ({
	runtime: "native",
	sqliteBackend: "local",
	encoding,
	useRealTimers: true,
	features: {},
	...options,
	start,
});

export const createWasmDriverTestConfig = createNativeDriverTestConfig;

export async function releaseSharedEngine() {}
export async function getOrStartSharedEngine() {
	return {};
}

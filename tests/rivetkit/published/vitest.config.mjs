// Runs the test files in this folder's tests/driver, with their harness and the client's source replaced.
import { resolve } from "node:path";
import { defineConfig } from "vitest/config";

const at = (name) => resolve(process.cwd(), name);

export default defineConfig({
	test: {
		include: ["tests/driver/*.test.ts"],
		fileParallelism: false,
		testTimeout: 30_000,
		hookTimeout: 30_000,
		sequence: { concurrent: false },
		env: { RIVET_LOG_LEVEL: "SILENT", RIVETKIT_DRIVER_TEST_RUNTIME: "native", RIVETKIT_DRIVER_TEST_SQLITE: "local" },
	},
	resolve: {
		alias: [
			{ find: /^\.\/shared-harness$/, replacement: at("harness.mjs") },
			{ find: /^(@|\.\.\/\.\.\/src)\/client\/(mod|errors)$/, replacement: at("client.mjs") },
			{ find: /^@\/actor\/errors$/, replacement: "rivetkit/errors" },
			{ find: /^\.\.\/\.\.\/src\/common\/log$/, replacement: "rivetkit/log" },
		],
	},
});

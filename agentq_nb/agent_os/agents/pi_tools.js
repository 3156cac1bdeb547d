// The notebook's tools for Pi, which has no MCP: an extension that Pi loads from its folder. It asks the server at
// AGENTQ_TOOLS_URL for their names and forwards calls; without these variables there are none.

const VERSION = "2026-07-28";

async function ask(method, params, signal) {
  const about = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  const response = await fetch(process.env.AGENTQ_TOOLS_URL, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${process.env.AGENTQ_TOOLS_TOKEN}`,
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      "MCP-Protocol-Version": VERSION,
      "Mcp-Method": method,
      ...(params.name && { "Mcp-Name": params.name }),
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params: { ...params, _meta: about } }),
    signal,
  });
  const text = await response.text();
  // Slow calls return a stream of events; the last one is the answer.
  const data = text.trimStart().startsWith("{") ? text : text.split("\n").findLast((line) => line.startsWith("data:"))?.slice(5);
  if (!response.ok && !data?.trimStart().startsWith("{")) throw new Error(`The notebook's tools answered ${response.status}: ${text}`);
  const { result, error } = JSON.parse(data);
  if (error) throw new Error(error.message);
  return result;
}

export default async function (pi) {
  if (!process.env.AGENTQ_TOOLS_URL) return;
  const { tools } = await ask("tools/list", {});
  for (const tool of tools) {
    pi.registerTool({
      name: `mcp__notebook__${tool.name}`,
      label: tool.name,
      description: tool.description ?? "",
      parameters: tool.inputSchema,
      async execute(id, params, signal) {
        const { content, isError } = await ask("tools/call", { name: tool.name, arguments: params }, signal);
        if (isError) throw new Error(content.map((block) => block.text).join("\n"));
        return { content, details: undefined };
      },
    });
  }
}

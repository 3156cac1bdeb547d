// The proxy before the language models for Pi, which reads no base URL from its environment: an extension that Pi loads from
// its folder. Without these variables it changes nothing.

export default function (pi) {
  const { ANTHROPIC_BASE_URL, OPENAI_BASE_URL, GOOGLE_GEMINI_BASE_URL } = process.env;
  if (!process.env.AGENTQ_METERED) return;
  if (ANTHROPIC_BASE_URL) pi.registerProvider("anthropic", { baseUrl: ANTHROPIC_BASE_URL });
  if (OPENAI_BASE_URL) pi.registerProvider("openai", { baseUrl: OPENAI_BASE_URL });
  if (GOOGLE_GEMINI_BASE_URL) pi.registerProvider("google", { baseUrl: `${GOOGLE_GEMINI_BASE_URL}/v1beta` });
}

"""Documents of sessions, processes, files and the other values of VMs and agents."""

from __future__ import annotations

from agentq_nb._core.safe_text import LONGEST_TEXT, pretty
from agentq_nb._display.document import Cell, Document, moment_text, shows, tone
from agentq_nb.agent_os import (
    AgentCheck,
    ExecResult,
    FileInfo,
    Isolation,
    OutputSoFar,
    PermissionRequest,
    ProcessInfo,
    ProcessOutput,
    PromptResult,
    SessionEvent,
    SessionInfo,
    TranscriptView,
)
from agentq_nb.agent_os.sessions.transcript_view import clock

_MOST_PARTS = 200


@shows(SessionInfo)
def _session(session: SessionInfo) -> Document:
    return Document(
        title=f"Session {session.session_id}",
        facts=[
            ("agent", session.agent),
            ("status", tone(session.status)),
            ("folder", session.cwd),
            ("environment", ", ".join(session.env_names)),
            *((name, value) for name, value in (("mode", session.mode), ("model", session.model)) if value),
            *([("MCP servers", ", ".join(session.mcp_servers))] if session.mcp_servers else []),
            *([("resumed", session.resumed)] if session.resumed else []),
            ("created", session.created_at),
            *([("closed because", session.closed_reason)] if session.closed_reason else []),
        ],
    )


@shows(SessionEvent)
def _event(event: SessionEvent) -> Document:
    texts = [("Text", event.text)] if event.text else []
    data = [("Data", pretty(dict(event.data)))] if event.data else []
    return Document(title=f"{event.type} (event {event.index})", facts=[("time", event.time)], texts=[*texts, *data])


@shows(PermissionRequest)
def _request(request: PermissionRequest) -> Document:
    return Document(
        title=f"Agent '{request.agent}' asks: {request.heading}",
        facts=[
            ("kind", request.kind),
            ("session", request.session_id),
            ("request", request.request_id),
        ],
        texts=[(part.name, part.text) for part in request.parts],
        longest=max([LONGEST_TEXT, *(len(part.text) for part in request.parts)]),
        notes=["It waits for respond_permission(session_id, request_id, answer) with the answer 'allow' or 'deny'."],
    )


@shows(TranscriptView)
def _transcript(view: TranscriptView) -> Document:
    parts = view.parts()
    left_out = (
        f"{len(parts):,} events; the last {_MOST_PARTS} are shown. All of them: print(...), .markdown(), .frame()."
    )
    return Document(
        title=f"Session {view.session_id}",
        facts=[("agent", view.agent), ("actor", view.actor_id), ("status", tone(view.status))],
        texts=[(f"{part.heading}, {clock(part.time)}", part.text) for part in parts[-_MOST_PARTS:]],
        notes=[*view.remarks(), *([left_out] if len(parts) > _MOST_PARTS else [])],
    )


@shows(PromptResult)
def _prompt(result: PromptResult) -> Document:
    return Document(
        facts=[
            ("stopped", result.stop_reason),
            ("tool calls", len(result.tool_calls)),
            *([("changed files", ", ".join(map(str, result.files)) or "none")] if result.files is not None else []),
            *([("usage", pretty(dict(result.usage)))] if result.usage else []),
        ],
        texts=[("Text", result.text)],
    )


@shows(ExecResult)
def _executed(result: ExecResult) -> Document:
    said = Cell(f"{result.exit_code} (timed out)" if result.timed_out else str(result.exit_code), "bad")
    texts = [(name, text) for name, text in (("Output", result.stdout), ("Errors", result.stderr)) if text]
    return Document(
        facts=[("exit code", said if result.exit_code or result.timed_out else Cell("0", "good"))], texts=texts
    )


@shows(ProcessInfo)
def _process(process: ProcessInfo) -> Document:
    ended = [("exit code", Cell(str(process.exit_code), "bad" if process.exit_code else "good"))]
    return Document(
        title=f"Process {process.process_id}",
        facts=[
            ("command", process.command),
            ("status", tone(process.status)),
            ("started", process.started_at),
            *([("ended", process.ended_at), *ended] if process.status == "ended" else []),
        ],
    )


@shows(ProcessOutput)
def _output(output: ProcessOutput) -> Document:
    return Document(title=f"{output.stream} of process {output.process_id}", texts=[("Text", output.text)])


@shows(OutputSoFar)
def _output_so_far(output: OutputSoFar) -> Document:
    texts = [(name, text) for name, text in (("Output", output.stdout), ("Errors", output.stderr)) if text]
    return Document(texts=texts, notes=[] if texts else ["Nothing was written yet."])


@shows(FileInfo)
def _file(file: FileInfo) -> Document:
    return Document(
        facts=[
            ("name", file.name),
            ("kind", file.kind),
            ("bytes", f"{file.size:,}"),
            ("modified", moment_text(file.modified)),
        ]
    )


@shows(Isolation)
def _isolation(isolation: Isolation) -> Document:
    return Document(
        title=f"Isolation: {isolation.kind}",
        facts=[
            *(("protects", text) for text in isolation.protects),
            *(("does not protect", text) for text in isolation.does_not_protect),
            *((f"not {kind}", reason) for kind, reason in isolation.refused.items()),
        ],
    )


@shows(AgentCheck)
def _check(check: AgentCheck) -> Document:
    state = tone("ok") if check else tone("problem")
    found = [(name, value) for name, value in (("version", check.version), ("program", check.path)) if value]
    missing = [("missing", text) for text in check.missing]
    return Document(facts=[("agent", check.agent), ("state", state), *found, *missing])

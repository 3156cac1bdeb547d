// @ts-check
// The messages between a page and the kernel. The Python side is in sync.py, patch.py, overview.py, cards.py, diffs.py
// and buttons.py.
//
// All times are in seconds. Those since 1970 are by the kernel's wall clock. Lengths and rates use its monotonic clock,
// which nobody can set: `elapsed`, the points of a history, and `since` and `settled` of a message's card.

// --- from the kernel ---

/** @typedef {Snapshot | Patch | Heartbeat | Picture | Dropped | Answer} FromKernel */

/**
 * What all messages but answers carry. A page that finds a gap in the numbers asks for a snapshot.
 * @typedef {object} Envelope
 * @property {number} number Of the last snapshot or patch, this one included.
 * @property {number} time Since 1970.
 * @property {number} elapsed By the monotonic clock.
 * @property {boolean} [quiet] Nothing keeps the kernel alive, and a page that nobody uses must not either.
 * @property {boolean} [settled] Nothing shown will change any more.
 */

/** @typedef {Envelope & { type: "snapshot", sections: Sections, history?: Record<string, Point[]> }} Snapshot */
/** @typedef {Envelope & { type: "patch" } & Changes} Patch */
/** @typedef {Envelope & { type: "heartbeat" }} Heartbeat */

/**
 * What takes the widget's place in the notebook once its kernel is gone: which widget, and the outputs by MIME type.
 * @typedef {Envelope & { type: "picture", model: string, data: Record<string, string> }} Picture
 */

/** @typedef {Envelope & { type: "dropped", count: number }} Dropped */

/**
 * @typedef {object} Answer
 * @property {"answer"} type
 * @property {number | null} request
 * @property {string} [error] One line. Where it is there, nothing else is.
 * @property {string} [note] What a button did.
 * @property {Record<string, BlockRow>} [blocks] Answers "earlier".
 * @property {MessageDetails} [shown] Answers "show".
 * @property {VmDiff} [diff] Answers "diff".
 */

/** @typedef {Omit<Answer, "type" | "request">} Reply */

/**
 * Changes of sections by name, then by row. `more` has text to append to fields that grow; `gone` has the keys of rows.
 * @typedef {object} Changes
 * @property {Record<string, Record<string, Record<string, unknown>>>} [set]
 * @property {Record<string, Record<string, Record<string, string>>>} [more]
 * @property {Record<string, string[]>} [gone]
 */

/**
 * A moment by the monotonic clock, how many messages were waiting or running, and how many had been handled by then.
 * @typedef {[elapsed: number, depth: number, handled: number]} Point
 */

// --- to the kernel ---

/** @typedef {{ type: "watch", have: number }} Watch The number of the last message that the page has; 0 for none. */

/**
 * What is answered.
 * @typedef {({ type: "page" } & PageOfMessages)
 *   | { type: "choose", session: string | null }
 *   | { type: "earlier", session: string | null, before: number }
 *   | { type: "diff", session: string | undefined }
 *   | { type: "show", message: string }
 *   | ({ type: "do" } & Action)} Request
 */

/** @typedef {{ status: string, search: string, offset: number }} PageOfMessages */

/**
 * @typedef {{ action: "pause" | "resume" | "purge", key: string }
 *   | { action: "cancel" | "retry", message: string }
 *   | { action: "retry failed" | "resume batch" | "cancel batch", batch: string }
 *   | { action: "end pause", limit: string }
 *   | { action: "answer", actor: string, session: string, ask: string, allow: boolean }
 *   | { action: "stop", actor?: string, session?: string }} Action
 */

// --- what is shown ---

/**
 * Sections with a row for each key.
 * @typedef {object} Tables
 * @property {QueueRow} queues By "actor queue".
 * @property {BatchRow} batches By name.
 * @property {LimitRow} limits By name.
 * @property {PauseRow} pauses By the name of the limit, or by "actor queue" of the one queue.
 * @property {ActorRow} actors Those in trouble, by id.
 * @property {SessionRow} sessions By id.
 * @property {PermissionRow} requests By id; ids sort by their time.
 * @property {BlockRow} blocks The chosen transcript, by index.
 * @property {MessageRow} messages One page of them, by id.
 */

/**
 * Sections with one row, whose key is "it".
 * @typedef {object} Singles
 * @property {HostRow} host
 * @property {{ session: string, first: number }} transcript Which session was chosen.
 * @property {PageOfMessages & { order: string[], more: boolean, filters: string[] }} table The page of messages.
 * @property {MessageCardRow} message
 * @property {SessionCardRow} session
 */

/**
 * @typedef {{ [Name in keyof Tables]?: Record<string, Tables[Name]> }
 *   & { [Name in keyof Singles]?: { it: Singles[Name] } }} Sections
 */

/**
 * @typedef {object} HostRow
 * @property {boolean} running
 * @property {string} store
 * @property {string} path
 * @property {number} started_at
 * @property {number} awake In all hosts.
 * @property {number} actors
 * @property {string[]} waiting_for Names of actors that have work and no class yet.
 * @property {string | null} trouble
 * @property {string | null} stall
 * @property {number | null} stall_at
 * @property {string[]} notices
 * @property {number | null} cost US dollars of requests to language models since the kernel began; null: there were none.
 * @property {number} left_out Queues beyond those that are sent.
 * @property {number} limits_left_out The same of limits.
 * @property {boolean} more_batches There are batches beyond those that are sent.
 */

/**
 * @typedef {object} QueueRow
 * @property {string} actor
 * @property {string} queue
 * @property {boolean} internal Nothing for buttons.
 * @property {number} ready
 * @property {number} delayed
 * @property {number} blocked
 * @property {number} running
 * @property {string[]} running_ids
 * @property {number} dead
 * @property {number} expired
 * @property {number} waiting_senders Those that wait for room in the full queue.
 * @property {number} handled
 * @property {number | null} completed
 * @property {number | null} oldest_at
 * @property {boolean} paused
 * @property {number | null} paused_until
 * @property {boolean} stopped Failures that repeat have stopped it.
 * @property {string | null} reason Why it is paused or stopped, unless a user did it.
 * @property {string | null} limit The limit that holds it: "limit api", or "its limit".
 * @property {number | null} next_start When that limit lets the next message start.
 * @property {boolean} orphaned
 * @property {string | null} host The other host that runs the actor; null: this one, or none.
 */

/**
 * @typedef {object} BatchRow
 * @property {string} name
 * @property {string} actor
 * @property {string} queue
 * @property {string} at The key of the queue's row.
 * @property {number} created_at
 * @property {number} total
 * @property {number} done
 * @property {number} failed
 * @property {number} cancelled
 * @property {number} running
 * @property {number} waiting
 * @property {number} per_minute
 * @property {string | null} stopped Why.
 * @property {FailureGroup[]} failures
 */

/** @typedef {{ what: string, rows: string, count: number }} FailureGroup An error, and the rows that failed like it. */

/**
 * @typedef {object} LimitRow
 * @property {string} name
 * @property {number} count
 * @property {number} declared_count
 * @property {number | null} per Its period; null for a limit of how many are at work.
 * @property {number | null} declared_per
 * @property {number} used
 * @property {number | null} next_start Null where a message may start at once, or when another one ends.
 * @property {number | null} paused_until
 * @property {number} waiting Queues.
 * @property {string[]} queues Some of those that wait.
 */

/**
 * @typedef {object} PauseRow
 * @property {string} name
 * @property {string | null} limit The limit that is paused; null for a queue alone.
 * @property {string} queue The key of a queue that is paused.
 * @property {number | null} until When it ends; once it is over, one message at a time is tried.
 * @property {string} reason
 * @property {boolean} stopped Failures that repeat have stopped it, no provider.
 * @property {number} waiting Queues.
 * @property {string[]} queues Some of those that wait.
 */

/**
 * @typedef {object} ActorRow
 * @property {string} actor
 * @property {string} name
 * @property {string} state
 * @property {string} run
 * @property {string | null} error
 * @property {number | null} restarts_at
 */

/**
 * @typedef {object} SessionRow
 * @property {string} actor As shown.
 * @property {string} at The actor's id as it is.
 * @property {string} agent
 * @property {string} status
 * @property {number} created_at
 * @property {number} last_at
 * @property {number | null} events
 * @property {string} said
 * @property {boolean} in_clone Its VM works in a clone of a repository, which has a diff.
 */

/**
 * @typedef {object} PermissionRow
 * @property {string} actor
 * @property {string} at
 * @property {string} session
 * @property {string} agent
 * @property {string} title
 * @property {string | null} kind
 * @property {PermissionPart[]} parts
 * @property {number | null} too_long Its length in characters, where that is too much to be sent.
 */

/** @typedef {{ name: string, text: string, diff: boolean }} PermissionPart */
/** @typedef {{ index: number, type: string, text: string, time: number, data: string }} BlockRow */

/**
 * @typedef {object} MessageRow
 * @property {string} actor
 * @property {string} queue
 * @property {string} status
 * @property {boolean} live It can be cancelled.
 * @property {boolean} redeliverable It can be put back into its queue.
 * @property {number} attempts
 * @property {number} created_at
 * @property {number | null} started_at
 * @property {number | null} finished_at
 * @property {string} body
 * @property {string} outcome
 * @property {boolean} bad
 */

/**
 * @typedef {object} MessageDetails
 * @property {string} message
 * @property {string} status
 * @property {string} body
 * @property {string} reply
 * @property {string} error
 * @property {string} attempts
 * @property {string} key
 */

/**
 * @typedef {object} MessageCardRow
 * @property {string} id
 * @property {string} actor
 * @property {string} queue
 * @property {string} status
 * @property {boolean} live It can be cancelled.
 * @property {number} attempts
 * @property {number} others
 * @property {number} since
 * @property {number | null} settled
 * @property {string} reply
 * @property {string} error
 */

/** @typedef {{ actor: string, at: string, agent: string, status: string, id: string }} SessionCardRow */

/** @typedef {{ title: string, text: string, note: string }} VmDiff The note says if some of it is missing. */

export {};

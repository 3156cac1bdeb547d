// @ts-check
// The page's side of every live view of agentq, as anywidget loads it: bundled into ../static/dashboard.js, which is
// committed, so that neither a clone nor a page needs Node or loads anything from elsewhere. After a change:
//
//     npm ci && npm run bundle
//
// wire.js     the messages between a page and the kernel
// mirror.js   the page's copy of what the kernel shows, and the conversation that keeps it current
// history.js  the recent past of each queue
// view.js     the base of all views: is the kernel alive, what is drawn when
// dashboard.js, cards.js  the views; parts/ what they are made of
// dom.js, lists.js, format.js, sparkline.js, notebook.js  what these share

/** @import { Model } from "./notebook.js" */

import { MessageCard, SessionCard } from "./cards.js";
import { Dashboard } from "./dashboard.js";

/** @type {Record<string, new (model: Model, el: HTMLElement) => { close(): void }>} */
const VIEWS = { dashboard: Dashboard, message: MessageCard, session: SessionCard };

/**
 * Called for each place in which the widget is shown.
 * @param {{ model: Model, el: HTMLElement }} shown
 * @returns {() => void} What is called when that place is gone.
 */
function render({ model, el }) {
  const view = new VIEWS[model.get("kind")](model, el);
  return () => view.close();
}

export default { render };

// @ts-check
// A question that takes the place of buttons, before something that cannot be taken back.

import { button, make, setAttribute, setText, show } from "./dom.js";

export class Confirmation {
  /**
   * @param {HTMLElement} buttons They give way to the question.
   * @param {HTMLButtonElement} asking The one of them that asks: the focus returns to it.
   * @param {string} keep What the way back does.
   * @param {(event: Event) => Promise<void>} act
   */
  constructor(buttons, asking, keep, act) {
    this.buttons = buttons;
    this.asking = asking;
    this.question = make("span", { class: "aq-question" });
    const cancel = async (/** @type {Event} */ event) => {
      await act(event);
      this.close();
    };
    this.yes = button("Cancel them", "", cancel, "aq-danger");
    this.no = button("Keep", keep, () => this.close());
    this.node = make("div", { class: "aq-confirm", role: "group", hidden: true }, this.question, this.yes, this.no);
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // in a notebook, it leaves the cell
      this.close();
    });
  }

  /** The way back gets the focus, so that pressing Enter twice cancels nothing. */
  open() {
    this.showQuestion(true);
    this.no.focus();
  }

  close() {
    const focused = this.node.contains(document.activeElement);
    this.showQuestion(false);
    if (!focused) return;
    const left = [this.asking, ...this.buttons.querySelectorAll("button")].find((one) => !one.disabled && !one.hidden);
    (left ?? /** @type {HTMLElement} */ (this.node.closest(".aq"))).focus({ preventScroll: true });
  }

  /** @param {boolean} asked */
  showQuestion(asked) {
    show(this.node, asked);
    show(this.buttons, !asked);
  }

  /**
   * @param {string} count What would be cancelled: "3 messages".
   * @param {string} of What they belong to.
   */
  update(count, of) {
    setText(this.question, `Cancel ${count}?`);
    setAttribute(this.node, "aria-label", `Cancel ${count} of ${of}?`);
    setAttribute(this.yes, "aria-label", `Cancel them: ${count} of ${of}`);
  }
}

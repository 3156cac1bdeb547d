// @ts-check
// The notebook that the widget is shown in, where the front end lets a widget reach it.

/** @import { FromKernel, Picture } from "./wire.js" */

/**
 * The page's side of the widget, as anywidget hands it over.
 * @typedef {object} Model
 * @property {(name: string) => any} get
 * @property {(name: string, value: unknown) => void} set
 * @property {(message: unknown) => void} send
 * @property {(event: string, listener: (message: FromKernel) => void) => void} on
 * @property {(event: string, listener: (message: FromKernel) => void) => void} off
 * @property {any} widget_manager What the front end has; only JupyterLab's leads to a notebook.
 */

const WIDGET_VIEW = "application/vnd.jupyter.widget-view+json";

/**
 * Puts the picture in the widget's place, so that the notebook can be saved and read without a kernel. Where the front
 * end has done that itself, there is no widget left to replace; where it hides the notebook, the widget stays.
 * @param {Model} model
 * @param {Picture} picture
 */
export function replaceWidget(model, picture) {
  try {
    for (const cell of model.widget_manager.context.model.cells) replaceOutputs(cell.outputs, picture);
  } catch (error) {
    console.debug("agentq leaves its widget in the notebook", error);
  }
}

/**
 * @param {any} outputs JupyterLab's list of a cell's outputs; cells of text have none.
 * @param {Picture} picture
 */
function replaceOutputs(outputs, { model, data }) {
  for (let index = 0; index < (outputs?.length ?? 0); index++) {
    const output = outputs.get(index).toJSON();
    if (output.data?.[WIDGET_VIEW]?.model_id === model) outputs.set(index, { ...output, data });
  }
}

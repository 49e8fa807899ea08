/** A dialog in which a mask is painted over a picture: with a pointer, or with the arrow keys and the space bar. */

import { button, h, openDialog } from "./dom.js";

const LARGEST_BRUSH = 0.4; // of the picture's longer side

/**
 * Asks for a mask.
 *
 * @param {HTMLImageElement} picture what is painted over
 * @returns {Promise<Blob|null>} a PNG of the picture's size, white where it was painted; null where the person cancelled
 */
export async function paintMask(picture) {
  await picture.decode();
  return new Promise((resolve) => new Painter(picture, resolve).open());
}

class Painter {
  #strokes = [];
  #cursor;
  #isInverted = false;
  #resolve;

  constructor(picture, resolve) {
    this.#resolve = resolve;
    const { naturalWidth: width, naturalHeight: height } = picture;
    this.#cursor = { x: width / 2, y: height / 2 };
    this.canvas = h("canvas", {
      width,
      height,
      tabIndex: 0,
      role: "application",
      "aria-label": "Mask. Arrow keys move the brush, space paints, e paints or erases.",
      on: {
        pointerdown: (event) => this.#begin(event),
        pointermove: (event) => this.#move(event),
        keydown: (event) => this.#press(event),
        blur: () => this.#draw(),
      },
    });
    this.brush = h("input", { type: "range", min: 0.01, max: LARGEST_BRUSH, step: 0.01, value: 0.12, id: "brush" });
    this.eraser = button("Erase", () => this.#toggleEraser(), { "aria-pressed": "false", class: "quiet outlined" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true }, "Nothing is painted yet: paint what shall be drawn anew.");
    const stage = h("div", { class: "stage" }, h("img", { src: picture.src, alt: "" }), this.canvas);
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.style.width = `min(100%, calc(62vh * ${width / height}))`;
    this.content = [
      stage,
      this.problem,
      h(
        "div",
        { class: "painter-tools" },
        h("label", { for: "brush" }, "Brush"),
        this.brush,
        this.eraser,
        button("Undo", () => this.#undo(), { class: "quiet outlined" }),
        button("Invert", () => this.#invert(), { class: "quiet outlined" }),
        button("Clear", () => this.#clear(), { class: "quiet outlined" }),
        button("Use this mask", () => this.#finish(), { class: "primary" }),
      ),
    ];
  }

  open() {
    const onClose = () => this.#resolve(null);
    const title = "Paint what shall be drawn anew";
    this.dialog = openDialog({ class: "painter", titleId: "painter-title", title, onClose }, ...this.content);
    this.canvas.focus();
  }

  get #radius() {
    return (Number(this.brush.value) * Math.max(this.canvas.width, this.canvas.height)) / 2;
  }

  get #isErasing() {
    return this.eraser.getAttribute("aria-pressed") === "true";
  }

  #begin(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#addStroke(this.#pointOf(event));
  }

  #move(event) {
    if (!this.canvas.hasPointerCapture(event.pointerId)) return;
    this.#strokes.at(-1).points.push(this.#pointOf(event));
    this.#draw();
  }

  #pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  #press(event) {
    const step = Math.max(1, this.#radius / 2);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      this.#cursor.x = Math.min(Math.max(this.#cursor.x + x, 0), this.canvas.width);
      this.#cursor.y = Math.min(Math.max(this.#cursor.y + y, 0), this.canvas.height);
      this.#draw({ withCursor: true });
    } else if (event.key === " ") {
      this.#addStroke({ ...this.#cursor }, { withCursor: true });
    } else if (event.key === "e") {
      this.#toggleEraser();
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      this.#undo();
    } else {
      return;
    }
    event.preventDefault();
  }

  #addStroke(point, { withCursor = false } = {}) {
    this.problem.hidden = true;
    this.#strokes.push({ radius: this.#radius, isErasing: this.#isErasing, points: [point] });
    this.#draw({ withCursor });
  }

  #undo() {
    this.#strokes.pop();
    this.#draw();
  }

  #invert() {
    this.#isInverted = !this.#isInverted;
    this.#draw();
  }

  #clear() {
    this.#strokes = [];
    this.#isInverted = false;
    this.#draw();
  }

  #toggleEraser() {
    this.eraser.setAttribute("aria-pressed", String(!this.#isErasing));
  }

  #draw({ withCursor = false } = {}) {
    const context = this.canvas.getContext("2d");
    this.#paint(context, getComputedStyle(this.canvas).color);
    if (!withCursor) return;
    context.globalCompositeOperation = "source-over";
    context.beginPath();
    context.arc(this.#cursor.x, this.#cursor.y, this.#radius, 0, 2 * Math.PI);
    context.lineWidth = Math.max(1, this.canvas.width / 200);
    context.stroke();
  }

  #paint(context, colour) {
    const { width, height } = this.canvas;
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = context.fillStyle = colour;
    for (const { radius, isErasing, points } of this.#strokes) {
      context.globalCompositeOperation = isErasing ? "destination-out" : "source-over";
      context.lineWidth = 2 * radius;
      context.beginPath();
      // A line that goes nowhere is not drawn, so a dot is one to its own side.
      context.moveTo(points[0].x + 0.01, points[0].y);
      for (const { x, y } of points) context.lineTo(x, y);
      context.stroke();
    }
    if (!this.#isInverted) return;
    context.globalCompositeOperation = "source-out";
    context.fillRect(0, 0, width, height);
  }

  #finish() {
    if (this.#strokes.length === 0 && !this.#isInverted) {
      this.problem.hidden = false;
      return;
    }
    const { width, height } = this.canvas;
    const layer = h("canvas", { width, height });
    this.#paint(layer.getContext("2d"), "#fff");
    const mask = h("canvas", { width, height });
    const context = mask.getContext("2d");
    context.fillRect(0, 0, width, height);
    context.drawImage(layer, 0, 0);
    mask.toBlob((blob) => {
      this.#resolve(blob);
      this.dialog.close();
    }, "image/png");
  }
}

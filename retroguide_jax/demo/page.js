const find = (selector) => document.querySelector(selector);
const line = find("#status");
const drop = find("#drop");
const slider = find("#seed");
const PAUSE = 120; // ms that the slider must rest
const given = { file: null, id: null };
let timer = null;
let asking = null;

function report(text, kind = "") {
  line.textContent = text;
  line.className = kind;
}

/** Draws the newest image and seed; what was asked before is given up. */
function draw(delay = 0) {
  clearTimeout(timer);
  if (given.file) timer = setTimeout(ask, delay);
}

async function ask() {
  asking?.abort();
  const mine = (asking = new AbortController());
  const form = new FormData();
  form.append("seed", slider.value);
  form.append("image", given.file, given.file.name || "example.png");
  report("Drawing …", "busy");
  find("#pictures").classList.add("waiting");
  try {
    const response = await fetch("/generate", { method: "POST", body: form, signal: mine.signal });
    const answer = await response.json();
    if (mine.signal.aborted) return;
    if (response.status === 503) return wait(response, answer);
    if (!response.ok) return fail(answer.error);
    show(answer);
    report("Ready.");
  } catch (error) {
    if (!mine.signal.aborted) fail("the model does not answer; is `retroguide demo` still running?");
  } finally {
    if (mine === asking) find("#pictures").classList.remove("waiting");
  }
}

function wait(response, answer) {
  const seconds = Number(response.headers.get("Retry-After")) || 2;
  report(`Busy: ${answer.error}. Trying by itself in ${seconds} s.`, "busy");
  draw(seconds * 1000);
}

function fail(sentence) {
  report(`That did not work: ${sentence}.`, "wrong");
}

function show(answer) {
  const source = find("#source");
  source.src = answer.source;
  source.hidden = false;
  find("#invitation").hidden = true;
  drop.classList.add("filled");
  document.querySelectorAll("#pictures img").forEach((image, number) => {
    image.src = answer.pictures[number];
    image.hidden = false;
  });
  if (answer.found) find("#found").replaceChildren(...answer.found.map(describe));
}

function describe(item) {
  const entry = document.createElement("li");
  const frame = document.createElement("div");
  if (item.picture) {
    const image = new Image();
    image.src = item.picture;
    image.alt = item.id;
    frame.append(image);
  }
  const caption = document.createElement("p");
  const isRight = item.id === given.id;
  entry.classList.toggle("right", isRight);
  caption.append(make("b", isRight ? `${item.id}, the place itself` : item.id));
  caption.append(make("span", item.similarity.toFixed(3)));
  if (item.coordinates) {
    const place = item.coordinates.map((value) => Number(value.toFixed(6))).join(", ");
    caption.append(make("span", place, "soft"));
  }
  entry.append(frame, caption);
  return entry;
}

function make(kind, text, name = "") {
  const element = document.createElement(kind);
  element.textContent = text;
  element.className = name;
  return element;
}

function take(file, id = null) {
  if (!file) return;
  const most = Number(document.body.dataset.maxBytes);
  if (file.size > most) return fail(`this file is too large; give one of at most ${most / 2 ** 20} MB`);
  Object.assign(given, { file, id });
  for (const button of document.querySelectorAll(".examples button")) {
    button.setAttribute("aria-pressed", button.dataset.id === id);
  }
  draw();
}

slider.addEventListener("input", () => {
  find("output").textContent = slider.value;
  draw(PAUSE);
});
find("#file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
for (const button of document.querySelectorAll(".examples button")) {
  button.addEventListener("click", async () => {
    const response = await fetch(button.dataset.source).catch(() => null);
    if (!response) return fail("the model does not answer; is `retroguide demo` still running?");
    take(await response.blob(), button.dataset.id);
  });
}
// Anywhere on the page, or a file that misses the frame would replace the page.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});

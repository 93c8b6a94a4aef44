// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Without this script the forms work as they are. With it they are sent with
// the method they mean and an Idempotency-Key, and the page shows at once which
// node answered.
"use strict";

const served = document.getElementById("served");
const trail = document.getElementById("trail");
const toast = document.getElementById("toast");

function newKey() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}

// One colour per node, far apart for neighbouring numbers.
function color(node) {
  const n = parseInt(node.replace(/\D/g, ""), 10) || 0;
  return `hsl(${(160 + n * 137.5) % 360} 55% 36%)`;
}

function paint(el, node) {
  el.style.setProperty("--node", color(node));
}

function mark(node, title) {
  const li = document.createElement("li");
  li.title = title;
  if (node) paint(li, node);
  else li.className = "failed";
  trail.append(li);
  while (trail.children.length > 16) trail.firstChild.remove();
}

function show(node, pid, ms) {
  if (served.dataset.node !== node) {
    served.classList.remove("moved");
    void served.offsetWidth; // restart the animation
    served.classList.add("moved");
  }
  served.dataset.node = node;
  paint(served, node);
  served.querySelector(".served-node").textContent = node;
  if (pid) for (const el of document.querySelectorAll(".pid")) el.textContent = pid;
  const timing = document.getElementById("timing");
  if (timing && ms !== undefined) timing.textContent = `Last answer: ${node}, ${ms} ms.`;
  mark(node, ms === undefined ? node : `${node}, ${ms} ms`);
}

function fail(text) {
  mark("", text);
  toast.textContent = text;
  toast.classList.add("on");
  setTimeout(() => toast.classList.remove("on"), 4000);
}

async function ask(url, init) {
  const from = performance.now();
  const res = await fetch(url, init);
  const ms = Math.round(performance.now() - from);
  if (!res.ok) throw new Error(`${res.status}: ${(await res.text()).trim()}`);
  return { res, node: res.headers.get("X-Shop-Node") || "?", ms };
}

let busy = 0;

async function send(form) {
  const init = {
    method: form.dataset.method || "POST",
    headers: { Accept: "text/html" },
    body: new URLSearchParams(new FormData(form)),
  };
  init.body.delete("_method");
  // The counter alone may not be repeated.
  if (!("once" in form.dataset)) init.headers["Idempotency-Key"] = newKey();
  busy++;
  try {
    const { res, node, ms } = await ask(form.action, init);
    const doc = new DOMParser().parseFromString(await res.text(), "text/html");
    const pid = doc.querySelector(".pid");
    document.getElementById("app").replaceWith(doc.getElementById("app"));
    show(node, pid && pid.textContent, ms);
  } catch (err) {
    fail(String(err.message || err));
  } finally {
    busy--;
  }
}

document.addEventListener("submit", (e) => {
  e.preventDefault();
  send(e.target);
});
document.addEventListener("change", (e) => {
  const form = e.target.form;
  if (form && "auto" in form.dataset) form.requestSubmit();
});

// Ask once a second, so that a node that dies is seen to be replaced.
async function poll() {
  if (!busy && !document.hidden) {
    try {
      const { res, node, ms } = await ask("/api/state", { headers: { Accept: "application/json" } });
      const st = await res.json();
      if (!busy) show(node, st.pid, ms);
    } catch (err) {
      fail(String(err.message || err));
    }
  }
  setTimeout(poll, 1000);
}

show(served.dataset.node);
setTimeout(poll, 1000);

// What makes the pages nicer; each of them works without it.
"use strict";
(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const typing = (at) => at.closest("input, select, textarea, [contenteditable]");

  // copying a command
  for (const code of all(".command code")) {  // a line is never broken within --option
    const words = code.textContent.split(" ").map((word) => {
      const span = document.createElement("span");
      span.textContent = word;
      return span;
    });
    code.replaceChildren(...words.flatMap((span, at) => (at ? [" ", span] : [span])));
  }
  for (const button of all("[data-copy]")) {
    button.hidden = false;
    const told = button.textContent;
    button.addEventListener("click", async () => {
      const code = button.parentNode.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code); // without TLS there is no clipboard: select, as by hand
        document.execCommand("copy");
      }
      button.textContent = button.dataset.copy || told + " ✓";
      say(button.textContent);
      setTimeout(() => { button.textContent = told; }, 2000);
    });
  }

  // what changes without a new page is said to screen readers, too
  const voice = document.createElement("p");
  voice.className = "unseen";
  voice.setAttribute("role", "status");
  document.body.append(voice);
  const say = (text) => { voice.textContent = text; };

  // a folder opens in its place: the row's page is fetched, and its rows come below it
  const open = async (button) => {
    const row = button.closest("tr");
    const level = Number(row.dataset.level || 0) + 1;
    if (button.getAttribute("aria-expanded") === "true") {
      for (let next = row.nextElementSibling; next && Number(next.dataset.level || 0) >= level;) {
        const gone = next;
        next = next.nextElementSibling;
        gone.remove();
      }
      button.setAttribute("aria-expanded", "false");
      return;
    }
    button.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(button.dataset.open, { credentials: "same-origin" });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const rows = all("[data-tree] > tr", page);
      for (const one of rows.reverse()) {
        one.dataset.level = level;
        one.classList.add("in" + Math.min(level, 6));
        row.after(document.adoptNode(one));
        ready(one);
      }
      button.setAttribute("aria-expanded", "true");
      say(button.dataset.told || "");
    } catch {
      location = row.querySelector("a").href;
    } finally {
      button.removeAttribute("aria-busy");
    }
  };
  const ready = (where) => {
    for (const button of all("[data-open]", where)) {
      button.hidden = false;
      button.addEventListener("click", () => open(button));
    }
  };
  ready(document);

  // what runs now: one stream for all tabs of this browser; the tab that holds the lock listens
  const events = document.body.dataset.events;
  let newest = null;
  const show = (news) => {
    for (const note of all("[data-ended]")) if (note.hidden === !!news.ended) { note.hidden = !news.ended; say(news.ended ? note.textContent : ""); }
    if (news.ended) return;
    newest = news;
    for (const one of news.running) {
      const task = CSS.escape(one.task);
      for (const at of all(`[data-live="${task}"]`)) at.textContent = one.told;
      for (const bar of all(`[data-live-bar="${task}"]`)) if (one.total) { bar.max = one.total; bar.value = one.done; }
    }
    if (document.body.dataset.seen === news.seen) return;
    document.body.dataset.seen = news.seen;
    for (const note of all("[data-news]")) { note.hidden = false; say(note.textContent); }
  };
  if (events && window.BroadcastChannel && navigator.locks) {
    const others = new BroadcastChannel("nightvault");
    others.onmessage = (told) => {
      if (told.data) show(told.data);
      else if (newest) others.postMessage(newest); // a tab that was opened just now asks
    };
    others.postMessage(null);
    navigator.locks.request("nightvault-events", () => new Promise((done) => {
      const stream = new EventSource(events);
      const tell = (news) => { show(news); others.postMessage(news); };
      let late = 0;
      stream.addEventListener("status", (told) => { clearTimeout(late); tell(JSON.parse(told.data)); });
      stream.addEventListener("open", () => clearTimeout(late));
      stream.addEventListener("error", () => { // the session ended, or the server is away
        clearTimeout(late);
        late = setTimeout(() => tell({ ended: true }), stream.readyState === EventSource.CLOSED ? 0 : 30000);
      });
      addEventListener("pagehide", () => { stream.close(); done(); });
    }));
  }

  // keys
  const dialog = document.getElementById("keys");
  let first = "";
  let at = -1;
  const step = (by) => {
    const rows = all("tbody tr").filter((row) => row.querySelector("a"));
    if (!rows.length) return;
    rows.forEach((row) => row.classList.remove("is-at"));
    at = Math.max(0, Math.min(rows.length - 1, at + by));
    rows[at].classList.add("is-at");
    rows[at].querySelector("a").focus({ preventScroll: true });
    rows[at].scrollIntoView({ block: "nearest" });
  };
  const go = (key) => {
    const found = document.querySelector(`.nav [data-key="${CSS.escape(key)}"]`);
    if (found) location = found.href;
  };
  const keys = {
    "/": () => {
      const field = document.querySelector("input[type=search]");
      if (field) field.focus();
      else go("s");
    },
    "?": () => { dialog.hidden = false; dialog.showModal(); },
    j: () => step(1),
    k: () => step(-1),
    u: () => { const up = document.querySelector("[data-up]"); if (up) location = up.href; },
  };
  if (dialog) {
    dialog.addEventListener("close", () => { dialog.hidden = true; });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || dialog.open) return;
      if (first === "g") {
        first = "";
        go(event.key);
        event.preventDefault();
      } else if (event.key === "g") {
        first = "g";
        setTimeout(() => { first = ""; }, 1500);
      } else if (keys[event.key]) {
        keys[event.key]();
        event.preventDefault();
      }
    });
  }
})();

"use strict";
{
  const box = document.getElementById("q");
  const count = document.getElementById("count");
  const rows = [...document.querySelectorAll("#sessions > li")];
  const texts = JSON.parse(document.getElementById("texts").textContent);
  const around = 70;
  let folded;

  // Accents and case aside. Character by character this gives the same as at once, which place() relies on.
  const fold = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replaceAll("ß", "ss").replaceAll("ς", "σ");

  // Where in a text stands what is at a place of the folded text.
  const place = (text, wanted) => {
    let at = 0;
    let seen = 0;
    for (const character of text) {
      if (seen >= wanted) break;
      seen += fold(character).length;
      at += character.length;
    }
    return at;
  };

  // The text around the first hit, each hit marked; by nodes, never as markup.
  const snippet = (text, found, words) => {
    const hit = Math.min(...words.map((word) => found.indexOf(word)).filter((at) => at >= 0));
    if (hit === Infinity) return null;
    const begin = place(text, Math.max(0, hit - around));
    const part = text.slice(begin, begin + 3 * around);
    const foldedPart = fold(part);
    const line = document.createElement("p");
    line.className = "hit";
    line.dir = "auto";
    line.append(begin ? "…" : "");
    let done = 0;
    for (let at = 0; at < foldedPart.length; ) {
      const word = words.find((one) => foldedPart.startsWith(one, at));
      if (!word) {
        at += 1;
        continue;
      }
      const from = place(part, at);
      const to = place(part, at + word.length);
      const mark = document.createElement("mark");
      mark.textContent = part.slice(from, to);
      line.append(part.slice(done, from), mark);
      done = to;
      at += word.length;
    }
    line.append(part.slice(done), begin + part.length < text.length ? "…" : "");
    return line;
  };

  const search = () => {
    const words = fold(box.value).split(/\s+/).filter(Boolean);
    folded ??= texts.map(([id, text]) => [fold(id), fold(text)]);
    let shown = 0;
    rows.forEach((row, number) => {
      const [id, text] = folded[number];
      const hit = words.every((word) => id.includes(word) || text.includes(word));
      row.hidden = !hit;
      row.querySelector(".hit")?.remove();
      shown += hit;
      if (hit && words.length) row.append(snippet(texts[number][1], text, words) ?? "");
    });
    count.textContent = words.length ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
    document.getElementById("none").hidden = shown > 0 || !words.length;
    history.replaceState(null, "", words.length ? `#q=${encodeURIComponent(box.value)}` : location.pathname);
  };

  const fromAddress = () => {
    if (!location.hash.startsWith("#q=")) return;
    try {
      box.value = decodeURIComponent(location.hash.slice(3));
    } catch {
      return;
    }
    search();
  };

  document.getElementById("find").hidden = false;
  box.addEventListener("input", search);
  addEventListener("hashchange", fromAddress);
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || document.activeElement === box) return;
    event.preventDefault();
    box.focus();
    box.select();
  });
  fromAddress();
}

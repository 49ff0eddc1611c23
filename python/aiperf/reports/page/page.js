"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const errorBox = $("page-error");
  const fail = (e) => { errorBox.hidden = false; errorBox.textContent = "The charts could not be drawn: " + (e && e.message || e); };

  async function inflate(id) {
    const bytes = Uint8Array.from(atob($(id).textContent.trim()), (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // Theme: the system's, until the button is pressed.
  const media = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => document.documentElement.dataset.theme || (media.matches ? "dark" : "light");
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    redrawAll();
  });
  media.addEventListener("change", () => redrawAll());

  document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "copied";
  }));

  // A link into folded parts opens them.
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
  };
  addEventListener("hashchange", unfold);

  let data = null;

  // The same as aiperf.plots.render: tokens → colours and widths.
  function layout(width) {
    const two = width >= 620 ? 2 : 1, three = width >= 860 ? 3 : two;
    const each = (n) => Math.max(Math.floor((width - 14 * (n - 1)) / n) - (n === 1 ? 86 : 58), 120);
    return { w1: each(1), w2: each(two), w3: each(three), cols2: two, cols3: three };
  }
  function resolve(spec, width) {
    const chosen = data.themes[theme()];
    const tokens = { ...chosen.tokens, ...layout(width) };
    const walk = (v, key) => {
      if (typeof v === "string") return v[0] === "$" && v.slice(1) in tokens ? tokens[v.slice(1)] : v;
      if (Array.isArray(v)) return key === "values" ? v : v.map((x) => walk(x));
      if (v && typeof v === "object") return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, walk(x, k)]));
      return v;
    };
    const out = walk(spec);
    out.config = { ...chosen.config, background: "transparent", axis: { ...chosen.config.axis, ...(width < 480 ? { titleFontSize: 10, labelFontSize: 10 } : {}) } };
    if (width < 480) out.config.legend = { ...out.config.legend, columns: 1 };
    return out;
  }

  const drawn = new Map();
  async function draw(holder, spec) {
    const width = Math.floor(holder.clientWidth);
    const before = drawn.get(holder);
    const { title, ...rest } = spec;  // the page shows title and note as text, which wraps
    const small = ((spec.usermeta || {}).marks || 0) <= 2500;
    const inside = document.createElement("div");  // vega-embed makes its element shrink to the chart
    holder.style.minHeight = holder.clientHeight + "px";
    holder.replaceChildren(inside);
    const embed = (room) => vegaEmbed(inside, resolve(rest, room), {
      renderer: small ? "svg" : "canvas", actions: { export: true, source: false, compiled: false, editor: false },
      tooltip: { theme: theme() }, ast: false,
    });
    let result = await embed(width);
    // How wide the labels of an axis are is known when they are drawn.
    const excess = Math.ceil(inside.querySelector("svg, canvas").getBoundingClientRect().width) - width;
    if (excess > 0) {
      result.finalize();
      result = await embed(width - excess);
    }
    if (before) before.result.finalize();
    holder.style.minHeight = "";
    drawn.set(holder, { result, spec, width, theme: theme() });
    return result.view;
  }
  function clear(holder) {
    const old = drawn.get(holder);
    if (old) old.result.finalize();
    drawn.delete(holder);
    holder.replaceChildren();
  }
  let queue = Promise.resolve();
  const later = (work) => (queue = queue.then(work).catch(fail));

  const charts = () => [...document.querySelectorAll("figure[data-chart]")];
  const drawChart = (figure) => {
    const holder = figure.querySelector(".chart");
    if (drawn.has(holder) || holder.dataset.pending) return;
    holder.dataset.pending = "1";
    later(() => draw(holder, data.charts[figure.dataset.chart]));
  };
  function redrawAll() {
    if (!data) return;
    for (const [holder, old] of drawn) {
      if (holder.dataset.own) continue;
      if (old.width !== Math.floor(holder.clientWidth) || old.theme !== theme()) later(() => draw(holder, old.spec));
    }
    if (explore) explore.redraw();
  }
  let timer = 0;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(redrawAll, 200); });

  // Single requests ---------------------------------------------------------------------------------------------------
  let explore = null;
  function makeExplore(x) {
    const n = x.row.length;
    const names = { ttft: "TTFT (ms)", itl: "ITL (ms)", latency: "Latency (ms)", isl: "ISL", osl: "OSL", longest: "Longest gap (ms)" };
    const columns = ["ttft", "itl", "latency", "isl", "osl", "longest"].filter((c) => x[c].some((v) => v !== null));
    const packed = new Uint16Array(Uint8Array.from(atob(x.packed), (c) => c.charCodeAt(0)).buffer);
    const first = [0];
    for (const g of x.gaps) first.push(first[first.length - 1] + g);
    const format = (v) => v === null || v === undefined ? "–" : Math.abs(v) >= 100 ? Math.round(v).toLocaleString("en") : Math.abs(v) >= 10 ? v.toFixed(1) : v.toFixed(2);
    const worst = x.worst.reduce((a, b) => a + b, 0);
    const all = n >= x.total;
    $("explore-note").textContent = all ? `All ${n.toLocaleString("en")} requests.` :
      `${n.toLocaleString("en")} of ${x.total.toLocaleString("en")} requests: a sample drawn at random, and the ${worst.toLocaleString("en")} worst by TTFT, ITL or latency. Ranks are among all requests.`;
    let metric = 0, range = [2, 9], label = "slowest 1%", chosen = -1;
    const rank = (p) => -Math.log10(1 - p);
    const ranges = [["all", 0, 9], ["p0–p50", 0, rank(.5)], ["p50–p90", rank(.5), 1], ["p90–p99", 1, 2], ["slowest 1%", 2, 9]];
    const bad = x.status.some((s) => s !== "ok");
    const chips = (id, items, pressed, act) => {
      $(id).replaceChildren(...items.map((name, i) => {
        const b = document.createElement("button");
        b.type = "button"; b.textContent = name; b.setAttribute("aria-pressed", String(pressed(i)));
        b.addEventListener("click", () => act(i));
        return b;
      }));
    };
    const paintChips = () => {
      chips("explore-metrics", x.metrics.map((m) => m.name), (i) => i === metric, (i) => { metric = i; redraw(); });
      const items = ranges.map((r) => r[0]).concat(bad ? ["not ok"] : []);
      chips("explore-ranges", items, (i) => items[i] === label, (i) => {
        label = items[i];
        range = i < ranges.length ? ranges[i].slice(1) : null;
        paintChips(); select(true);
      });
    };
    const place = (i) => x.metrics.length ? x.metrics[metric].x[i] : null;
    const inside = (i) => range === null ? x.status[i] !== "ok" : place(i) === null ? label === "all" : place(i) >= range[0] - 1e-9 && place(i) <= range[1] + 1e-9;
    const values = () => {
      const m = x.metrics[metric];
      const out = [];
      for (let i = 0; i < n; i++) if (m.v[i] !== null && m.v[i] !== undefined && m.x[i] !== null) out.push({ i, x: m.x[i], v: m.v[i], t: x.start[i], n: x.request[i] });
      return out;
    };
    const shown = (m) => `${m.name} (${m.unit})`;
    const params = () => [{ name: "lo", value: range ? range[0] : 99 }, { name: "hi", value: range ? range[1] : 99 }];
    const axis = { values: [0.30103, 0.60206, 1, 2, 3, 4, 5], labelOverlap: "greedy", labelSeparation: 5,
      labelExpr: "datum.value < 0.5 ? 'p50' : datum.value < 0.8 ? 'p75' : datum.value < 1.5 ? 'p90' : datum.value < 2.5 ? 'p99' : datum.value < 3.5 ? 'p99.9' : datum.value < 4.5 ? 'p99.99' : 'p99.999'" };
    const test = "datum.x >= lo - 1e-9 && datum.x <= hi + 1e-9";
    const colour = { condition: { test, value: "$vermillion" }, value: "$grey" };
    const ttip = (m) => [{ field: "n", title: "request" }, { field: "t", title: "started (s)", format: ".3f" }, { field: "v", title: shown(m), format: ",.4~g" }];
    const curveSpec = (m, points) => ({
      width: "$w1", height: 200, params: params(), usermeta: { marks: points.length },
      description: `${m.name} by percentile; drag to choose`,
      layer: [
        { data: { values: m.curve }, mark: { type: "line", color: "$blue" },
          encoding: { x: { field: "x", type: "quantitative", title: "percentile", scale: { zero: false, nice: false }, axis }, y: { field: "v", type: "quantitative", title: shown(m) } } },
        { data: { values: points }, mark: { type: "point", size: 16, opacity: .75 },
          params: [{ name: "brush", select: { type: "interval", encodings: ["x"], mark: { fill: "$blue", fillOpacity: .12, stroke: "$blue" } } }],
          encoding: { x: { field: "x", type: "quantitative", scale: { zero: false, nice: false }, axis }, y: { field: "v", type: "quantitative" }, color: colour, tooltip: ttip(m) } },
      ],
    });
    const scatterSpec = (m, points) => ({
      width: "$w1", height: 200, params: params(), usermeta: { marks: points.length },
      description: `${m.name} over time`,
      data: { values: points }, mark: { type: "point", size: 16, opacity: .75, cursor: "pointer" },
      encoding: { x: { field: "t", type: "quantitative", title: "started after (s)" }, y: { field: "v", type: "quantitative", title: shown(m) }, color: colour, tooltip: ttip(m) },
    });
    const views = {};
    async function drawOwn(id, spec) {
      const holder = $(id);
      holder.dataset.own = "1";
      return (views[id] = await draw(holder, { ...spec, $schema: "https://vega.github.io/schema/vega-lite/v6.json" }));
    }
    async function select(fromChip) {
      for (const id of ["explore-curve", "explore-scatter"]) {
        const view = views[id];
        if (!view) continue;
        view.signal("lo", range ? range[0] : 99).signal("hi", range ? range[1] : 99);
        await view.runAsync();
      }
      list();
    }
    function list(again) {
      const rows = [];
      for (let i = 0; i < n; i++) if (inside(i)) rows.push(i);
      const by = (i) => x.metrics.length && x.metrics[metric].v[i] !== null ? x.metrics[metric].v[i] : -1;
      rows.sort((a, b) => by(b) - by(a));
      const most = 200;
      const words = range === null ? "not successful" : label || `from ${percentile(range[0])} to ${percentile(range[1])}`;
      $("explore-count").textContent = `${rows.length.toLocaleString("en")} of these requests: ${words}${rows.length > most ? `; the slowest ${most} are listed` : ""}. Choose one to see its chunks.`;
      const head = "<thead><tr><th scope=col>Request</th><th scope=col>Started (s)</th>" + columns.map((c) => `<th scope=col>${names[c]}</th>`).join("") + "<th scope=col>In flight</th><th scope=col>Result</th></tr></thead>";
      const body = rows.slice(0, most).map((i) => `<tr data-i="${i}" tabindex="0" aria-selected="${i === chosen}"><td>${x.request[i] ?? x.row[i]}</td><td>${format(x.start[i])}</td>` +
        columns.map((c) => `<td>${format(x[c][i])}</td>`).join("") + `<td>${x.load[i] ?? "–"}</td><td class="${x.status[i] === "ok" ? "" : "bad"}">${x.status[i]}</td></tr>`).join("");
      $("explore-table").innerHTML = head + "<tbody>" + body + "</tbody>";
      if (rows.length && (again || chosen < 0 || !inside(chosen))) show(chosen >= 0 && inside(chosen) ? chosen : rows[0], false);
    }
    const percentile = (r) => "p" + +(100 * (1 - 10 ** -Math.min(r, 6))).toFixed(3);
    function show(i, scroll) {
      chosen = i;
      $("explore-table").querySelectorAll("tr[data-i]").forEach((tr) => tr.setAttribute("aria-selected", String(+tr.dataset.i === i)));
      $("explore-detail").hidden = false;
      $("explore-detail-title").textContent = `Request ${x.request[i] ?? x.row[i]}: its chunks`;
      const facts = [["Started", format(x.start[i]) + " s"], ["Result", x.status[i]], ["Chunks", x.chunks[i].toLocaleString("en")], ["In flight at its start", x.load[i] ?? "–"]]
        .concat(columns.map((c) => [names[c], format(x[c][i])]));
      $("explore-facts").innerHTML = facts.map(([a, b]) => `<div><dt>${a}</dt><dd>${b}</dd></div>`).join("");
      life(i);
      const stride = x.stride[i];
      const gaps = Array.from(packed.subarray(first[i], first[i + 1]), (v) => Math.expm1(v / x.scale) / 1000);
      $("explore-detail-note").textContent = gaps.length ? (stride > 1 ? `The longest gap of every ${stride} chunks in a row.` : "Every gap between two chunks.") : "No gaps between chunks: fewer than two chunks came.";
      const points = gaps.map((g, k) => ({ k: 1 + (k + 1) * stride, g: +g.toPrecision(5) }));
      const step = Math.max(1, points.length);
      const spec = {
        width: "$w1", height: 150, usermeta: { marks: points.length }, description: "Gap before each chunk of the request",
        data: { values: points }, mark: points.length > 240 ? { type: "line", interpolate: "step", color: "$blue", strokeWidth: 1.2 } : { type: "bar", color: "$blue", width: Math.max(1, Math.min(10, 520 / step)) },
        encoding: { x: { field: "k", type: "quantitative", title: "chunk", scale: { zero: false, nice: false }, axis: { tickMinStep: 1 } }, y: { field: "g", type: "quantitative", title: "gap before it (ms)" },
          tooltip: [{ field: "k", title: "chunk" }, { field: "g", title: "gap (ms)", format: ",.4~g" }] },
      };
      later(() => points.length ? drawOwn("explore-chunks", spec) : clear($("explore-chunks")));
      if (scroll) $("explore-detail").scrollIntoView({ block: "nearest" });
    }
    // Client and server of one request on one axis.
    function life(i) {
      const l = x.life, has = l && x.ttft[i] !== null && x.ttft[i] !== undefined && l.at[i] !== null && l.at[i] !== undefined;
      $("explore-life-note").textContent = has ? `Client and server on one axis; the server's arrival is known to ±${format(l.bound[i])} ms` +
        (l.source === "histogram" ? ", its parts are the mean of its histograms at that time." : ".") : "";
      if (!has) { clear($("explore-life")); return; }
      const rows = [], add = (lane, name, from, to) => { if (to > from) rows.push({ lane, name, from: +from.toPrecision(6), to: +to.toPrecision(6), ms: +(to - from).toPrecision(5) }); };
      const q = l.at[i] + (l.queue[i] || 0), b = q + (l.both[i] || 0), p = b + (l.prefill[i] || 0);
      add("client", "send lag", -(l.lag[i] || 0), 0);
      add("client", "to the first token", 0, x.ttft[i]);
      add("client", "tokens", x.ttft[i], x.latency[i]);
      add("server", "queue", l.at[i], q);
      add("server", "queue and prefill", q, b);
      add("server", "prefill", b, p);
      add("server", "decode", p, p + (l.decode[i] || 0));
      const names = ["send lag", "to the first token", "tokens", "queue", "queue and prefill", "prefill", "decode"].filter((n) => rows.some((r) => r.name === n));
      const of = { "send lag": "$grey", "to the first token": "$sky", tokens: "$blue", queue: "$vermillion", "queue and prefill": "$vermillion", prefill: "$orange", decode: "$green" };
      const colours = names.map((n) => of[n]);
      later(() => drawOwn("explore-life", {
        width: "$w1", height: 64, usermeta: { marks: rows.length }, description: "What the client and the server did with the request",
        data: { values: rows }, mark: { type: "bar", height: 22 },
        encoding: { x: { field: "from", type: "quantitative", title: "since it was sent (ms)" }, x2: { field: "to" }, y: { field: "lane", type: "nominal", title: null },
          color: { field: "name", type: "nominal", scale: { domain: names, range: colours }, legend: { orient: "top", columns: 3 } },
          tooltip: [{ field: "name", title: "part" }, { field: "ms", title: "ms", format: ",.4~g" }] },
      }));
    }
    $("explore-table").addEventListener("click", (e) => { const tr = e.target.closest("tr[data-i]"); if (tr) show(+tr.dataset.i, true); });
    $("explore-table").addEventListener("keydown", (e) => { const tr = e.target.closest("tr[data-i]"); if (tr && (e.key === "Enter" || e.key === " ")) { e.preventDefault(); show(+tr.dataset.i, true); } });
    function redraw() {
      paintChips();
      if (!x.metrics.length) { list(true); return; }
      const m = x.metrics[metric], points = values();
      later(async () => {
        const curve = await drawOwn("explore-curve", curveSpec(m, points));
        curve.addSignalListener("brush", (_, value) => {
          const found = value && value.x;
          if (!found) return;
          range = [Math.min(...found), Math.max(...found)]; label = "";
          paintChips(); later(() => select(false));
        });
        const scatter = await drawOwn("explore-scatter", scatterSpec(m, points));
        scatter.addEventListener("click", (_, item) => { if (item && item.datum && item.datum.i !== undefined) show(item.datum.i, true); });
        list(true);
      });
    }
    return { redraw, get range() { return range; }, get chosen() { return chosen; } };
  }

  async function start() {
    unfold();
    if (!$("page-bundle").textContent.trim()) return;
    const [text, code] = await Promise.all([inflate("page-data"), inflate("page-bundle")]);
    data = JSON.parse(text);
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    const watch = new IntersectionObserver((entries) => entries.forEach((e) => {
      if (!e.isIntersecting) return;
      watch.unobserve(e.target);
      if (e.target.id === "explore") { explore = makeExplore(data.explore); explore.redraw(); } else drawChart(e.target);
    }), { rootMargin: "700px 0px" });
    charts().forEach((figure) => watch.observe(figure));
    if (data.explore) watch.observe($("explore"));
    addEventListener("beforeprint", () => charts().forEach(drawChart));
    // For tests, and for whoever wants the data: everything drawn at once.
    window.aiperfPage = {
      data, drawn, get explore() { return explore; },
      drawAll: async () => {
        charts().forEach(drawChart);
        if (data.explore && !explore) { watch.unobserve($("explore")); explore = makeExplore(data.explore); explore.redraw(); }
        let last;
        do { last = queue; await last; } while (last !== queue);
      },
    };
  }
  start().catch(fail);
})();

"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, cls) => { const e = document.createElement(tag); if (text !== undefined && text !== null) e.textContent = text; if (cls) e.className = cls; return e; };
  const svg = (tag, attributes) => { const e = document.createElementNS("http://www.w3.org/2000/svg", tag); for (const k in attributes) e.setAttribute(k, attributes[k]); return e; };
  const number = (v, digits) => v === null || v === undefined ? "–" : v.toLocaleString("en", { maximumFractionDigits: digits ?? (Math.abs(v) >= 1000 ? 0 : Math.abs(v) >= 10 ? 1 : 2) });
  const share = (v) => v === null || v === undefined ? "–" : `${number(100 * v, 1)}%`;
  const counted = (n) => `${number(n, 0)} request${n === 1 ? "" : "s"}`;
  const clock = (s) => { const n = Math.round(s), h = Math.floor(n / 3600), m = Math.floor(n % 3600 / 60); return (h ? `${h}:${String(m).padStart(2, "0")}` : `${m}`) + `:${String(n % 60).padStart(2, "0")}`; };
  const WORDS = { requests_running: "Requests running", requests_waiting: "Requests waiting", kv_cache_usage: "KV cache use", nvidia_gpu_utilization: "GPU utilisation", nvidia_power_usage: "GPU power", nvidia_memory_used: "GPU memory used", nvidia_temperature: "GPU temperature", amd_gfx_activity: "GPU utilisation", amd_power: "GPU power", amd_memory_used: "GPU memory used", amd_temperature: "GPU temperature" };
  const CHARTS = [["Requests/s", [1]], ["flow", [2]], ["In flight", [3]], ["Errors per second", [4]], ["TTFT (ms)", [5, 6]], ["ITL (ms)", [7, 8]], ["Request latency (ms)", [9, 10]]];
  const BARS = [["time_to_first_token", "TTFT"], ["inter_token_latency", "ITL"], ["request_latency", "Request latency"]];
  const MOST = 600;
  let moments = [], last = null, over = false;

  const table = (element, head, rows, classes) => {
    const body = make("tbody");
    rows.forEach((cells, i) => { const tr = make("tr", null, classes?.[i]); cells.forEach((c) => tr.append(c instanceof Node ? c : make("td", c))); body.append(tr); });
    const thead = make("thead"), tr = make("tr"); head.forEach((h) => { const th = make("th", h); th.scope = "col"; tr.append(th); }); thead.append(tr);
    element.replaceChildren(thead, body);
  };
  const show = (id, there) => { $(id).hidden = !there; };

  const lines = (name, places) => {
    const figure = make("figure"), caption = make("figcaption"), words = make("b", name), key = make("span", null, "soft");
    const times = moments.map((m) => m[0]), series = places.map((p) => moments.map((m) => m[p]));
    const known = series.flat().filter((v) => v !== null && v !== undefined);
    if (!known.length) return null;
    const top = Math.max(...known, 0) * 1.08 || 1, from = times[0], to = Math.max(times[times.length - 1], from + 1);
    const picture = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `${name} over time, up to ${number(top)}` });
    for (const y of [25, 50, 75]) picture.append(svg("line", { x1: 0, x2: 100, y1: y, y2: y, class: "grid" }));
    series.forEach((values, k) => {
      let path = "", pen = false;
      values.forEach((v, i) => { if (v === null || v === undefined) { pen = false; return; } path += `${pen ? "L" : "M"}${(100 * (times[i] - from) / (to - from)).toFixed(2)} ${(100 - 100 * v / top).toFixed(2)}`; pen = true; });
      picture.append(svg("path", { d: path, class: `line${k ? " second" : name.startsWith("Errors") ? " bad" : ""}` }));
    });
    if (places.length > 1) { key.className = "soft key"; key.append(make("i"), "p50", make("i", null, "second"), "p99"); }
    else key.textContent = `now ${number(series[0][series[0].length - 1])}`;
    caption.append(words, key);
    const ends = make("div", null, "ends"); ends.append(make("span", clock(from)), make("span", `0 to ${number(top)}`), make("span", clock(to)));
    figure.append(caption, picture, ends);
    return figure;
  };

  const columns = (name, bars) => {
    if (!bars || !bars.counts.length) return null;
    const figure = make("figure"), caption = make("figcaption"), most = Math.max(...bars.counts, 1), n = bars.counts.length;
    const picture = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `Histogram of ${name}` });
    bars.counts.forEach((c, i) => { if (c) picture.append(svg("rect", { x: 100 * i / n, width: 92 / n, y: 100 - 96 * c / most, height: 96 * c / most, class: "column" })); });
    caption.append(make("b", `${name} so far (ms)`), make("span", counted(bars.counts.reduce((a, b) => a + b, 0)), "soft"));
    const ends = make("div", null, "ends"); ends.append(make("span", number(bars.edges[0])), make("span", number(bars.edges[n >> 1])), make("span", number(bars.edges[n])));
    figure.append(caption, picture, ends);
    return figure;
  };

  const card = (name, value, unit, below) => { const c = make("div", null, "card"), v = make("strong", value); v.append(make("small", unit)); c.append(make("b", name), v, make("span", below)); return c; };

  const draw = (f) => {
    const run = f.run, phase = f.phase;
    if (run) { $("title").textContent = `${run.models.join(", ")} · ${run.endpoint} · ${run.load}`; $("facts").replaceChildren(...[...run.urls.slice(0, 3), run.directory].map((t) => make("span", t))); document.title = `aiperf: ${run.models[0] ?? "live"}`; }
    const state = { preparing: `preparing: ${f.stage}`, running: phase && phase.is_stopping ? "stopping" : phase ? phase.name : "running", evaluating: `the load has ended: ${f.stage}`, complete: "complete", failed: `ended without results: ${f.stage}` }[f.status];
    $("state").textContent = state;
    $("progress").classList.toggle("unknown", !phase || phase.share === null);
    if (phase) {
      const percent = phase.share === null ? 0 : 100 * phase.share; $("bar").style.width = `${percent}%`; $("progress").setAttribute("aria-valuenow", percent.toFixed(0));
      $("times").textContent = `${clock(phase.elapsed_s)}${phase.left_s !== null && f.status === "running" ? ` · ${clock(phase.left_s)} left` : ""} · ${number(phase.done, 0)}${phase.planned ? ` of ${number(phase.planned, 0)}` : ""} requests${phase.is_measured ? "" : " · warm-up, not measured"}`;
    }
    show("log", f.log.length > 0); $("log-list").replaceChildren(...f.log.slice(-20).map((t) => make("li", t)));
    show("study", !!f.study);
    if (f.study) { 
      const s = f.study;
      $("study-title").textContent = s.title; table($("study-table"), s.columns, s.rows, s.rows.map((_, i) => `${s.front.includes(i) ? "front" : ""} ${i === s.best ? "best" : ""}`));
      $("study-key").textContent = [s.front.length ? "▸ on the Pareto front of throughput and speed per user" : "", s.best === null ? "" : `bold: the best so far, ${s.rows[s.best][0]}`].filter(Boolean).join(" · ");
    }
    if (!f.now) return;
    const now = f.now, far = f.so_far, unit = far.flow_unit;
    const verdict = make("span", null, `badge ${f.client.verdict}`); verdict.append(make("i"), `measurement quality: ${f.client.verdict}`);
    $("verdict").replaceChildren(...(far.ok ? [verdict, ...f.client.reasons.map((r, i) => make("span", `${i ? " · " : " "}${r}`, "soft small"))] : []));
    const p99 = (x) => x ? number(x[2]) : "–", p50 = (x) => x ? number(x[0]) : "–";
    $("cards").replaceChildren(
      card("Requests/s", number(now.requests_per_s), "", `so far ${number(far.requests_per_s)}`),
      card(`Output ${unit}/s`, number(now.flow), "", `so far ${number(far.flow)}`),
      card("TTFT p99", p99(now.ttft), "ms", `p50 ${p50(now.ttft)} · so far ${p99(far.ttft)}`),
      card("ITL p99", p99(now.itl), "ms", `p50 ${p50(now.itl)} · so far ${p99(far.itl)}`),
      card("Latency p99", p99(now.latency), "ms", `p50 ${p50(now.latency)} · so far ${p99(far.latency)}`),
      card("In flight", number(f.in_flight, 0), "", `${number(far.ok, 0)} successful so far`),
      card("Errors", share(now.error_share), "", `${number(far.failed, 0)} so far (${share(far.error_share)})`));
    show("goals", f.slos.length + f.asserts.length > 0);
    const verdictCell = (holds) => make("td", holds === null ? "known at the end" : holds ? "met" : "not met", holds === null ? "" : holds ? "good" : "bad");
    table($("goals-table"), ["", "", "so far", "margin"], [
      ...f.slos.map((s) => [`goodput: ${s.name}`, "", s.share === null ? "known at the end" : `${share(s.share)} of requests, ${number(s.per_s)} requests/s`, ""]),
      ...f.asserts.map((a) => [a.text, verdictCell(a.holds), a.actual, a.margin === null ? "–" : share(a.margin)])]);
    show("errors", f.errors.length > 0);
    table($("errors-table"), ["Kind", "Count", "Last", "Message"], f.errors.map((e) => [e.name, number(e.count, 0), e.ago_s < 1 ? "now" : `${clock(e.ago_s)} ago`, e.message]));
    const row = (name, a, b) => [name, ...[0, 1, 2].map((i) => a ? number(a[i]) : "–"), ...[0, 1, 2].map((i) => b ? number(b[i]) : "–")];
    table($("latencies"), ["ms", "now p50", "p90", "p99", "so far p50", "p90", "p99"], [row("TTFT", now.ttft, far.ttft), row("ITL", now.itl, far.itl), row("Request latency", now.latency, far.latency)]);
    show("levels", f.levels.length > 0);
    table($("levels-table"), ["", "Place", "Value"], f.levels.map((x) => [WORDS[x.name] ?? x.name, x.place, x.unit === "ratio" ? share(x.value) : `${number(x.value)} ${x.unit}`]));
    show("generators", f.generators.length > 0);
    table($("generators-table"), ["Generator", "State", "In flight", "Done", "Errors", "Tokens", "Requests/s", "Send lag p99 (ms)", "Busiest worker CPU (%)"], f.generators.map((g) => [g.name, g.state, number(g.in_flight, 0), number(g.done, 0), number(g.failed, 0), number(g.output_tokens, 0), number(g.rate, 1), number(g.send_lag_p99_ms, 1), number(100 * g.cpu, 0)]));
    if (moments.length) $("charts").replaceChildren(...CHARTS.map(([name, places]) => lines(name === "flow" ? `Output ${unit}/s` : name, places)).filter(Boolean));
    $("histograms").replaceChildren(...BARS.map(([tag, name]) => columns(name, f.histograms[tag])).filter(Boolean));
  };

  const token = new URLSearchParams(location.search).get("token");
  const source = new EventSource("/events" + (token ? `?token=${encodeURIComponent(token)}` : ""));
  source.onopen = () => { $("dot").className = "on"; moments = []; };
  source.onerror = () => { $("dot").className = "off"; if (!over) $("state").textContent = last && last.status === "complete" ? "the run has ended" : "connection lost: trying again"; };
  source.addEventListener("frame", (event) => {
    last = JSON.parse(event.data);
    if (last.is_new) moments = [];
    moments.push(...last.moments); if (moments.length > MOST) moments = moments.slice(-MOST);
    if (last.status === "failed") { over = true; source.close(); $("dot").className = "off"; }
    draw(last); document.documentElement.dataset.frames = Number(document.documentElement.dataset.frames ?? 0) + 1;
  });
  source.addEventListener("report", async (event) => {
    over = true; const { url } = JSON.parse(event.data);
    if (!url) { source.close(); $("state").textContent = "complete; no report was written (--no-report)"; return; }
    source.close(); location.replace(url);
  });
})();

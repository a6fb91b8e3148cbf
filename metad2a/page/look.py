"""How the page and the report look: one set of colours, light and dark, and the styles of parts."""

from __future__ import annotations

LIGHT = """--ink:#18212b; --soft:#56626f; --paper:#ffffff; --wash:#f4f6f9; --line:#dde3ea;
  --accent:#1f5fd0; --accent-soft:#e7effd; --warm:#b34a00; --warm-soft:#fdf1e3; --bad:#b3261e;
  --s0:#1f5fd0; --s1:#b34a00; --s2:#00795a; --s3:#97477a; --s4:#7a6200;"""
DARK = """--ink:#e8ecf1; --soft:#a3afbd; --paper:#161b22; --wash:#1d242d; --line:#323c48;
  --accent:#7fb0ff; --accent-soft:#1d2c45; --warm:#f0a35e; --warm-soft:#34271a; --bad:#ff8a80;
  --s0:#7fb0ff; --s1:#f0a35e; --s2:#4fc9a4; --s3:#dd8fc0; --s4:#d6bb4a;"""

PARTS = """
.m2 { color:var(--ink); font-size:.95rem; line-height:1.5; }
.m2 p, .m2 li, .m2 td, .m2 th, .m2 span, .m2 summary, .m2 em { color:inherit; }
.m2 h2 { font-size:1.25rem; font-weight:650; letter-spacing:-.01em; margin:0 0 .3rem;
  color:var(--ink); }
.m2 h3 { font-size:1rem; font-weight:600; margin:1.2rem 0 .5rem; color:var(--ink); }
.m2 p { margin:0; max-width:72ch; }
.m2 p.lead { color:var(--soft); margin-bottom:.8rem; overflow-wrap:anywhere; }
.m2 p.lead b { color:var(--ink); }
.m2 .card { border:1px solid var(--line); border-radius:12px; background:var(--paper);
  padding:14px 16px; margin:0; min-width:0; }
.m2 figcaption { font-size:.85rem; color:var(--soft); margin-bottom:10px; text-align:left; }
.m2 figcaption b { display:block; font-size:.98rem; color:var(--ink); font-weight:600; }
.m2 .more { font-size:.85rem; color:var(--soft); margin-top:8px; }
.m2 .facts { display:grid; grid-template-columns:repeat(auto-fit, minmax(105px, 1fr)); gap:1px;
  border:1px solid var(--line); border-radius:12px; overflow:hidden; background:var(--paper);
  margin-bottom:14px; }
.m2 .facts div { box-shadow:0 0 0 1px var(--line); padding:10px 14px; }
.m2 .facts b { display:block; font-size:1.15rem; font-weight:600; white-space:nowrap; }
.m2 .facts span { font-size:.8rem; color:var(--soft); }
.m2 .pair { display:grid; gap:14px; grid-template-columns:repeat(auto-fit,
  minmax(min(100%, 340px), 1fr)); align-items:start; }
@media (min-width: 900px) {
  .m2 .pair.wide { grid-template-columns:minmax(0, 1.15fr) minmax(0, 1fr); }
}
.m2 .name { white-space:nowrap; overflow:hidden; text-overflow:ellipsis; font-size:.85rem; }
.m2 .samples { display:grid; grid-template-columns:minmax(30px, max-content) 1fr; gap:5px 12px;
  align-items:center; max-height:290px; overflow-y:auto; }
.m2 .samples .name, .m2 .bars .name { max-width:110px; }
.m2 .notes { font-size:.85rem; color:var(--soft); overflow-wrap:anywhere; }
.m2 .doubts { display:flex; flex-wrap:wrap; gap:10px; }
.m2 .doubt { width:112px; margin:0; }
.m2 .doubt img { width:112px; height:112px; object-fit:cover; border-radius:5px; margin:0; }
.m2 .doubt figcaption { font-size:.75rem; overflow-wrap:anywhere; }
.m2 .strip { display:flex; gap:4px; overflow:hidden; }
.m2 .strip img { width:34px; height:34px; object-fit:cover; border-radius:5px; margin:0;
  background:var(--wash); image-rendering:auto; flex:none; }
.m2 .bars { display:grid; grid-template-columns:minmax(30px, max-content) 1fr max-content;
  gap:6px 10px; align-items:center; max-height:290px; overflow-y:auto; }
.m2 .bar { height:10px; border-radius:5px; background:var(--wash); overflow:hidden; }
.m2 .bar i { display:block; height:100%; border-radius:5px; background:var(--accent);
  min-width:3px; }
.m2 .count { font-size:.8rem; color:var(--soft); text-align:right;
  font-variant-numeric:tabular-nums; }
.m2 .fold { margin-top:12px; font-size:.88rem; border:1px solid var(--line);
  border-radius:12px; padding:10px 14px; overflow-wrap:anywhere; background:var(--paper); }
.m2 .fold summary { cursor:pointer; font-weight:600; }
.m2 .fold ul { margin:8px 0 0; padding-left:1.1rem; }
.m2 .fold code { background:none; border:0; padding:0; font-size:.85em; color:var(--ink); }
/* Contained, a wide table scrolls in its box and does not widen the page of a phone. */
.m2 .list .more { padding:4px 12px 8px; }
.m2 .list { overflow-x:auto; contain:inline-size; padding:4px 0; }
.m2 .list table { width:100%; border-collapse:collapse; margin:0; font-size:.9rem;
  font-variant-numeric:tabular-nums; border:0 !important; }
.m2 .list th, .m2 .list td { padding:8px 8px; text-align:right; white-space:nowrap;
  border:0 !important; background:none; }
.m2 .list tr { border:0 !important; background:none; }
.m2 .list td { border-top:1px solid var(--line) !important; }
.m2 .list th { font-weight:600; font-size:.82rem; color:var(--soft); }
.m2 .list th:first-child, .m2 .list td:first-child { text-align:left; }
.m2 .pair + p.more { margin-top:12px; overflow-wrap:anywhere; }
.m2 .offers { display:grid; gap:14px; align-items:stretch;
  grid-template-columns:repeat(auto-fit, minmax(min(100%, 230px), 1fr)); margin-bottom:14px; }
@media (min-width: 900px) {
  .m2 .offers { grid-template-columns:minmax(0, 1.5fr) minmax(0, 1fr); }
}
.m2 .offers .card { display:flex; flex-direction:column; gap:8px; align-items:flex-start; }
.m2 .offers .best { border:2px solid var(--accent); grid-row:span 2; }
.m2 .offers h3 { margin:0; } .m2 .offers .facts { align-self:stretch; margin:4px 0 0; }
.m2 .offers .facts { grid-template-columns:repeat(auto-fit, minmax(84px, 1fr)); }
.m2 .offers .facts div { padding:7px 10px; } .m2 .offers .facts b { font-size:1.05rem; }
.m2 .found b { font-size:2.1rem; line-height:1.1; font-weight:700; color:var(--accent); }
.m2 small { color:var(--soft); font-size:.85em; } .m2 .found small { display:block; }
.m2 .offers button, .m2 .inside button { min-height:44px; padding:0 16px; border-radius:8px;
  border:1px solid var(--accent); color:var(--accent); background:var(--paper); font-weight:600;
  cursor:pointer; margin-top:auto; }
.m2 .best button { background:var(--accent); color:var(--paper); }
.m2 .offers button:focus-visible, .m2 .net summary:focus-visible { outline:3px solid var(--accent);
  outline-offset:2px; }
.m2 .tied b { color:var(--warm); }
.m2 .nets { padding:4px 0 10px; font-size:.9rem; font-variant-numeric:tabular-nums; }
.m2 .nets .head, .m2 .net summary { display:grid; gap:6px; align-items:center;
  grid-template-columns:56px repeat(var(--columns), minmax(0, 1fr)); padding:6px 14px;
  text-align:right; }
.m2 .nets .head { color:var(--soft); font-weight:600; font-size:.82rem; }
.m2 .net { border-top:1px solid var(--line); }
.m2 .net summary { min-height:44px; cursor:pointer; list-style:none; }
.m2 .net summary::-webkit-details-marker { display:none; }
.m2 .net summary > span:first-child { text-align:left; white-space:nowrap; }
.m2 .net summary > span:first-child::before { content:"▸"; color:var(--soft); margin-right:6px; }
.m2 .net[open] summary > span:first-child::before { content:"▾"; }
.m2 .net i { font-style:normal; font-size:.72rem; color:var(--warm); }
.m2 .net .inside { padding:6px 14px 14px; display:grid; gap:8px; justify-items:start; }
.m2 .net .inside svg { margin:0; }
.m2 .nets .more { padding:0 14px; }
.m2 .drawn svg { display:block; max-width:100%; height:auto; margin:0 auto; }
.m2 ul.more { margin:4px 0 0; padding-left:1.1rem; }
.m2 .why code { background:none; border:0; padding:0; color:inherit; overflow-wrap:anywhere; }
.m2.answer { display:flex; gap:16px; align-items:flex-start; border:1px solid var(--line);
  border-radius:12px; padding:14px 16px; background:var(--paper); }
.m2.answer img { width:120px; height:120px; object-fit:cover; border-radius:8px; margin:0;
  flex:none; }
.m2.answer > div { flex:1; min-width:0; }
.m2.answer b { display:block; margin-bottom:8px; overflow-wrap:anywhere; }
.m2 .why { font-size:.8rem; color:var(--soft); margin-top:8px; }
.m2 .warning, .m2.problem, .m2.note, .m2.busy, .m2.job { border-radius:12px; padding:12px 16px;
  border:1px solid var(--line); background:var(--paper); overflow-wrap:anywhere; }
.m2 .warning { background:var(--warm-soft); border-color:var(--warm); margin-bottom:12px; }
.m2.problem { border-left:4px solid var(--bad); white-space:pre-line; }
.m2.problem p, .m2.busy p, .m2.note p { color:var(--soft); }
.m2.busy { display:flex; gap:14px; align-items:center; }
.m2 .spin { width:14px; height:14px; flex:none; border-radius:7px; background:var(--accent);
  animation:m2-beat 1.2s ease-in-out infinite alternate; }
@keyframes m2-beat { to { opacity:.25; } }
.m2 .line { display:flex; justify-content:space-between; gap:12px; margin-bottom:8px; }
.m2 .line span { color:var(--soft); font-variant-numeric:tabular-nums; }
.m2 .track { height:10px; border-radius:5px; background:var(--wash); overflow:hidden; }
.m2 .track i { display:block; height:100%; background:var(--accent); border-radius:5px;
  transition:width .3s; }
.m2 svg.chart { display:block; width:100%; max-width:600px; height:auto; margin:0 auto; }
.m2.job figure { margin:14px 0 0; }
.m2 .chart text { fill:var(--soft); font:13px system-ui, sans-serif; }
.m2 .chart .grid { stroke:var(--line); fill:none; }
.m2 .chart .dots { stroke:var(--soft); stroke-width:5; stroke-linecap:round; stroke-opacity:.28;
  fill:none; }
.m2 .chart .front { stroke:var(--accent); stroke-width:1.8; fill:none; stroke-opacity:.75; }
.m2 .chart .interval { stroke:var(--accent); stroke-width:1.6; stroke-opacity:.55; fill:none; }
.m2 .chart .mark { fill:var(--accent); stroke:var(--paper); stroke-width:1.5; }
.m2 .chart .rank { fill:var(--paper); font-size:11px; font-weight:700; }
.m2 .chart .limit { stroke:var(--warm); stroke-width:1.6; stroke-dasharray:5 4; }
.m2 .chart .beyond { fill:var(--warm); fill-opacity:.09; }
.m2 .chart .line { fill:none; stroke-width:2.2; stroke-linejoin:round; }
.m2 .chart .s0 { stroke:var(--s0); } .m2 .chart .s1 { stroke:var(--s1); }
.m2 .chart .s2 { stroke:var(--s2); } .m2 .chart .s3 { stroke:var(--s3); }
.m2 .chart .s4 { stroke:var(--s4); }
.m2 abbr { color:inherit; text-decoration:underline dotted; text-underline-offset:3px;
  cursor:help; }
.m2 .fold dl { display:grid; grid-template-columns:max-content 1fr; gap:4px 16px; margin:10px 0 0; }
.m2 .fold dt { font-weight:600; } .m2 .fold dd { margin:0; color:var(--soft); }
"""

PAGE = f"""
.gradio-container {{ {LIGHT} max-width:1320px !important; margin:0 auto !important;
  padding:0 !important; }}
.gradio-container > .main {{ padding:20px 24px 40px !important; }}
.gradio-container, .gradio-container > .main, .gradio-container .wrap, .gradio-container .contain {{
  width:100%; }}
.html-container {{ padding:0 !important; }}
.dark .gradio-container, .gradio-container.dark {{ {DARK} }}
{PARTS}
.dark .m2 .drawn svg {{ filter:invert(.88) hue-rotate(180deg); }}
.m2-head h1 {{ font-size:1.45rem; font-weight:700; letter-spacing:-.02em; margin:0;
  color:var(--ink); }}
.m2-head p {{ margin:.1rem 0 .5rem; color:var(--soft) !important; }}
.m2-side {{ flex:0 0 320px !important; position:sticky; top:14px; align-self:flex-start; }}
.m2-side h2, .m2-work h2 {{ font-size:1rem; font-weight:650; margin:.2rem 0 0; color:var(--ink); }}
.m2-side p, .m2-work p {{ font-size:.85rem; color:var(--soft); margin:0; }}
.m2-main {{ gap:26px !important; }}
.m2-gone {{ display:none !important; }}
.m2.empty {{ padding:8px 4px; }}
.m2.problem + .m2.empty {{ margin-top:22px; }}
.m2.empty > p {{ font-size:1.02rem; color:var(--soft); }}
.m2.empty h2 {{ font-size:1.6rem; }}
.m2 .steps {{ display:grid; gap:14px; margin-top:20px;
  grid-template-columns:repeat(auto-fit, minmax(min(100%, 230px), 1fr)); }}
.m2 .steps > div {{ border:1px solid var(--line); border-radius:12px; padding:14px 16px;
  background:var(--paper); }}
.m2 .steps b {{ display:inline-grid; place-items:center; width:26px; height:26px; font-size:.85rem;
  border-radius:50%; background:var(--accent-soft); color:var(--accent); }}
.m2 .steps h3 {{ display:inline; margin-left:8px; }}
.m2 .steps p {{ margin-top:8px; font-size:.9rem; color:var(--soft); }}
.m2 .steps pre {{ margin:10px 0 0; padding:10px 12px; overflow-x:auto; font-size:.78rem;
  line-height:1.5; background:var(--wash); border-radius:8px; border:0; color:var(--ink); }}
/* On a phone the parts of both columns stand below one another, the answer next to the upload. */
@media (max-width: 768px) {{
  .gradio-container > .main {{ padding:8px 12px 30px !important; }}
  /* Gradio puts its own container before each selector, and buttons' heights behind classes. */
  button, summary {{ min-height:44px !important; }} .label-wrap {{ align-items:center; }}
  .reset-button {{ display:none !important; }}
  .m2 .fold summary {{ padding:11px 0; }} .m2 .fold {{ padding:0 14px 4px; }}
  .m2-all {{ flex-direction:column !important; flex-wrap:nowrap !important; gap:14px !important; }}
  .m2-side, .m2-main {{ display:contents !important; }}
  .m2-all > *, .m2-side > *, .m2-main > * {{ width:100%; }}
  .m2-told, .m2-result {{ order:1; }} .m2-tools {{ order:2; }}
  .m2-trained, .m2-using {{ order:3; }} .m2-limits {{ order:4; }} .m2-advanced {{ order:5; }}
  .m2-listed {{ order:6; }} .m2-dataset {{ order:7; }} .m2-mark {{ order:8; }}
  .m2.empty h2 {{ font-size:1.35rem; }}
  .m2 .card {{ padding:12px; }} .m2 .nets {{ padding:4px 0 10px; }}
  .m2 .nets .head, .m2 .net summary {{ padding:6px 10px; font-size:.82rem;
    grid-template-columns:48px repeat(var(--columns), minmax(0, 1fr)); }}
  .m2 .nets .head {{ font-size:.7rem; }}
  .m2 .list th, .m2 .list td {{ padding:7px 6px; font-size:.82rem; }}
  .m2 .list th {{ white-space:normal; vertical-align:top; }}
}}
"""

REPORT = f"""
:root {{ {LIGHT} color-scheme:light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }}
  .m2 .drawn svg {{ filter:invert(.88) hue-rotate(180deg); }} }}
body {{ margin:0 auto; max-width:1100px; padding:28px 20px 60px; background:var(--paper);
  color:var(--ink); font:15px/1.5 system-ui, sans-serif; }}
h1 {{ font-size:1.6rem; margin:0; letter-spacing:-.02em; }}
header p, footer p {{ color:var(--soft); }}
section {{ margin-top:34px; }} code {{ overflow-wrap:anywhere; }}
{PARTS}
.m2 .samples, .m2 .bars {{ max-height:none; }}
.m2 .nets .head, .m2 .net summary {{ font-size:.86rem; }}
@media print {{ .m2 .card {{ break-inside:avoid; }} }}
"""

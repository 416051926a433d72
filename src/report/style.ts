/** The report's style sheet: light or dark by the reader's system, and suitable for printing. */
export const STYLE = `
:root{color-scheme:light dark;--ground:#fff;--ink:#14202b;--soft:#4d5c6a;--line:#d9e0e5;--track:#eef2f4;--accent:#0f766e;--good:#15703c;--good-soft:#dcf3e4}
@media (prefers-color-scheme:dark){:root{--ground:#0e1418;--ink:#e6edf2;--soft:#9fb0bd;--line:#27323a;--track:#19222a;--accent:#2dd4bf;--good:#6ee7a0;--good-soft:#12351f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1060px;padding:2rem 1.5rem 3rem;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
h1{margin:.1rem 0 .3rem;font-size:1.9rem;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.4rem 0 .6rem}
p,dl,dd{margin:0}
.brand{color:var(--accent);font-weight:650}
.soft{color:var(--soft);overflow-wrap:anywhere}
.state{font-size:.85rem;vertical-align:middle;letter-spacing:0;padding:.15rem .7rem;border-radius:99px;background:var(--track);color:var(--soft)}
.state.sealed{background:var(--good-soft);color:var(--good)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:1px;background:var(--line);border:1px solid var(--line);border-radius:12px;overflow:hidden;margin-top:1.5rem}
.tiles div{background:var(--ground);padding:.8rem 1rem}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles .figure{font-size:1.5rem;font-weight:650;letter-spacing:-.02em}
.tiles .soft{font-size:.85rem}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--soft)}
svg .value{fill:var(--ink)}
.grid{stroke:var(--line)}
.bar{fill:var(--accent)}
.track{fill:var(--track)}
.share{width:100%;min-width:8rem;height:.7rem;margin-top:.35rem}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-size:.92rem}
th{text-align:left;font-weight:500}
thead th{color:var(--soft);font-size:.8rem;border-bottom:1px solid var(--line);vertical-align:bottom}
th,td{padding:.4rem .9rem .4rem 0;vertical-align:top}
tbody th{white-space:nowrap}
tbody tr+tr>*{border-top:1px solid var(--line)}
.number{text-align:right;white-space:nowrap;padding-right:0;padding-left:.9rem}
details{margin-top:.8rem}
summary{cursor:pointer;color:var(--soft)}
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:1rem}
:focus-visible{outline:3px solid #1d4ed8;outline-offset:2px}
@media print{body{max-width:none}details{display:none}section{break-inside:avoid}}
`;

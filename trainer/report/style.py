"""The report's style sheet: one column, system fonts, light; phone first, then wide, then print."""

STYLE = """
:root{--ink:#1d2733;--soft:#5b6775;--line:#dfe4ea;--paper:#fff;--ground:#f5f6f8;--blue:#2457a6;
  --orange:#c2571a;--green:#2f7d4f}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Helvetica Neue",Arial,
  sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1060px;margin:0 auto;padding:20px 14px 60px}
header,section{background:var(--paper);border:1px solid var(--line);border-radius:12px;
  padding:20px 18px;margin-bottom:16px}
h1{font-size:1.75rem;line-height:1.2;margin:.1em 0 .5em;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:0 0 .8em;letter-spacing:-.005em}
h3{font-size:.85rem;margin:0 0 .5em;color:var(--soft);font-weight:600}
p{margin:.4em 0}
.kicker{color:var(--soft);font-size:.85rem;margin:0}
.answer{border-left:4px solid var(--blue);padding:2px 0 2px 14px;font-size:1rem;line-height:1.5}
.answer .short{font-size:1.2rem;font-weight:600;line-height:1.4}
.answer p{margin:.35em 0}
.alerts{list-style:none;margin:16px 0 0;padding:0;font-size:.93rem}
.alerts li{background:#fdf3ea;border:1px solid #f0d3bb;border-radius:8px;padding:8px 12px;
  margin-top:8px;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(2,1fr);gap:10px;margin:18px 0 0}
.facts div{border:1px solid var(--line);border-radius:8px;padding:8px 12px}
.facts dt{color:var(--soft);font-size:.8rem}
.facts dd{margin:0;font-size:1.25rem;font-weight:600;font-variant-numeric:tabular-nums}
.note{color:var(--soft);font-size:.87rem;margin:.9em 0 0;max-width:75ch}
.empty{color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.grid{width:100%;font-size:.93rem}
.grid th,.grid td{padding:8px 10px;text-align:left;border-bottom:1px solid var(--line);
  vertical-align:top;white-space:nowrap}
.grid thead th{color:var(--soft);font-weight:600;font-size:.8rem;
  border-bottom:2px solid var(--line)}
.grid .group th{font-weight:600;white-space:normal;padding-top:16px;border-bottom-color:#c9d1da}
.grid b{font-weight:600}
.spread{color:var(--soft);font-size:.85em;white-space:nowrap}
.best{background:#eaf1fb}
.missing{color:var(--soft);font-style:italic}
.tag{display:inline-block;font-size:.72rem;font-weight:600;color:#8a3d10;background:#fdf3ea;
  border:1px solid #f0d3bb;border-radius:99px;padding:0 8px;white-space:nowrap}
.verdict{padding:1px 10px;font-size:.82rem;background:#eef0f3;color:var(--soft)}
.verdict{display:inline-block;border-radius:10px;white-space:normal}.verdict.same{background:#eaf1fb;color:#24508f}
.verdict.better{background:#e6f3ea;color:#1f6238}.verdict.worse{background:#fbe9e0;color:#8a3d10}
.grid .subgroup th{font-weight:600;font-size:.84rem;color:var(--soft);background:#f8f9fb;
  white-space:normal}
.grid td:first-child{white-space:normal}.grid.leaks td{white-space:normal;overflow-wrap:anywhere}
.grid.metrics{font-size:.82rem}.grid.metrics td,.grid.metrics th{padding:7px 5px}
  .metrics thead th{white-space:normal}.metrics .sd{display:block}
  .metrics td:first-child{min-width:150px}
section h3{margin-top:1.1em}
.axis{position:relative;height:10px;margin-top:4px;min-width:120px;--c:#8a95a3}
.axis.better{--c:#2f7d4f}.axis.worse{--c:#c2571a}
.axis i{position:absolute;top:-1px;bottom:-1px;width:1px;background:#9aa5b1}
.axis b{position:absolute;top:4px;height:2px;background:var(--c)}
.axis u{position:absolute;top:1px;width:8px;height:8px;margin-left:-4px;border-radius:50%;
  background:var(--c)}
.delta.better b{color:#1f6238}.delta.worse b{color:#a4450f}
.classes{display:grid;grid-template-columns:1fr;gap:22px}
.byclass th[scope=row]{font-weight:500}
.mistakes{display:grid;grid-template-columns:1fr;gap:12px}
.mistake{border:1px solid var(--line);border-radius:8px;padding:10px 12px;break-inside:avoid}
.mistake p{margin:0;font-size:.8rem;line-height:1.4;overflow-wrap:anywhere}
.mistake img{width:64px;height:64px;border-radius:4px;border:1px solid var(--line);flex:none}
.test{display:flex;gap:10px}.test img{width:84px;height:84px}
.near{display:grid;grid-template-columns:repeat(3,1fr);gap:8px;margin-top:8px;padding-top:8px;
  border-top:1px dashed var(--line)}
.near p{font-size:.74rem;margin-top:3px}
.copy{font-size:.74rem;line-height:1.45;background:#f8f9fb;border:1px solid var(--line);
  border-radius:8px;padding:10px 12px;overflow-x:auto;user-select:all;-webkit-user-select:all}
.part{margin-bottom:16px}
.part>summary{font-size:1.05rem;font-weight:600;color:var(--ink);padding:12px 18px;
  background:var(--paper);border:1px solid var(--line);border-radius:12px;margin:0 0 16px}
details summary{cursor:pointer;color:var(--soft);font-size:.9rem;margin-top:10px}
.curves{display:grid;grid-template-columns:1fr;gap:14px}
.curves img{width:100%;height:auto;display:block}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:8px}
.tile{margin:0;font-size:.72rem;line-height:1.35;overflow-wrap:anywhere}
.tile img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;display:block;
  border:2px solid var(--line);image-rendering:auto}
.tile.out img{border-color:#c2571a}.tile figcaption{font-weight:400;font-size:.72rem;margin:2px 0 0}
.meter{display:block;height:8px;background:#f0d3bb;border-radius:99px;min-width:40px;margin-top:7px}
.meter b{display:block;height:8px;background:#2f7d4f;border-radius:99px}
.bars{width:100%;height:auto;display:block}
.sheet th{text-align:left;font-weight:600;padding:2px 12px 2px 0;font-size:.9rem}
.sheet thead th{color:var(--soft);font-size:.8rem}
.sheet td{padding:2px 10px 2px 0}
.sheet img{height:44px;width:auto;display:block;border-radius:4px}
.confusions{display:grid;grid-template-columns:1fr;gap:22px}
figure{margin:0;min-width:0}
figcaption{font-weight:600;font-size:.92rem;margin-bottom:6px}
figcaption>span{font-weight:400;color:var(--soft)}
figure img{max-width:100%;image-rendering:pixelated;border:1px solid var(--line)}
.confusion{font-size:.72rem}
.confusion td{width:26px;height:24px;padding:0 2px;text-align:center;border:1px solid #fff}
.confusion th{font-weight:500;color:var(--soft);padding:0 5px;text-align:right;white-space:nowrap}
.confusion thead th{text-align:center;padding:0 0 3px}
.confusion .zero{color:#c3cad2;background:#fafbfc}
.confusion.long thead span{writing-mode:vertical-rl;transform:rotate(180deg)}
.method{margin:0 0 1.2em;padding-left:1.1em;font-size:.93rem;max-width:80ch}
.method li{margin:.3em 0}
.pairs{display:grid;grid-template-columns:1fr;gap:18px}
.pairs>div{min-width:0}
.pair{width:100%;font-size:.82rem;table-layout:fixed}
.pair th{width:42%;text-align:left;font-weight:500;color:var(--soft);padding:2px 8px 2px 0;
  vertical-align:top}
.pair td{padding:2px 0;overflow-wrap:anywhere;vertical-align:top}
@media(max-width:719px){
 .grid{font-size:.84rem}.grid th,.grid td{padding:6px 4px;white-space:normal}.sd{display:block}
  .wide{display:none}.axis{min-width:70px}.verdict{display:inline-block;border-radius:7px;
  padding:0 5px;font-size:.7rem;line-height:1.35}
 .grid .spread{white-space:normal}.metrics{min-width:620px}.grid thead th{font-size:.72rem;
  line-height:1.3}
}
@media(min-width:720px){
 main{padding:36px 24px 80px}header,section{padding:28px 30px}h1{font-size:2.1rem}
 .facts{grid-template-columns:repeat(4,1fr)}.curves,.pairs{grid-template-columns:1fr 1fr}
 .mistakes{grid-template-columns:1fr 1fr}
 .classes{grid-template-columns:repeat(auto-fit,minmax(460px,1fr))}
  .confusions{grid-template-columns:repeat(auto-fill,minmax(310px,1fr))}.sheet img{height:56px}
}
@media print{
 body{background:#fff;font-size:11pt}main{max-width:none;padding:0}
 header,section{border:0;border-radius:0;padding:0 0 14pt;margin:0}
  figure,.curves img,tr{break-inside:avoid}h2{break-after:avoid}
 .scroll{overflow:visible}.curves,.mistakes,.classes{grid-template-columns:1fr 1fr}
  .grid td.wide,.grid th.wide{display:table-cell}.grid span.wide{display:inline}.sd{display:inline}
  .copy{white-space:pre-wrap;overflow:visible}*{-webkit-print-color-adjust:exact;
  print-color-adjust:exact}
}
"""

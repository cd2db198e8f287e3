#!/usr/bin/env bash
# Opens the report's page in a headless browser without a network: html.sh ANYCHIP, with the command's binary.
# The pages are the command's own, and one with every outcome from the test `page`.
set -euo pipefail
anychip=$(realpath "$1")
cd "$(dirname "$0")/../.."
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
  { echo "html.sh: there is no chromium" >&2; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "html.sh: $page: $*" >&2; exit 1; }

options=(--headless --disable-gpu --no-first-run --user-data-dir="$dir/profile" --host-resolver-rules="MAP * ~NOTFOUND"
  --enable-logging=stderr --virtual-time-budget=20000 --timeout=60000)
# A sandbox of the browser's own is not to be had by root; what it opens is this project's page.
[ "$(id -u)" != 0 ] || options+=(--no-sandbox)
dom() { "$browser" "${options[@]}" --dump-dom "file://$1" 2>"$dir/log"; }

# What a reader does, in a copy of the page: follows every link of the tables, and looks at what it opened.
cat >"$dir/reader.html" <<'SCRIPT'
<script>
const said = [];
addEventListener("error", e => said.push("error: " + e.message));
const seen = e => e.getClientRects().length > 0 && e.checkVisibility();
addEventListener("load", async () => {
  const next = () => new Promise(done => setTimeout(done, 20));
  const links = [...document.querySelectorAll("td a")];
  for (const link of links) {
    document.querySelectorAll("details").forEach(d => d.open = false);
    link.click();
    await next();
    const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (!target) { said.push("nowhere: " + link.hash); continue; }
    const at = target.parentElement;
    if (at.localName !== "details" || !at.open) said.push("closed: " + link.hash);
    if (![...at.querySelectorAll(":scope > details > summary")].some(seen)) said.push("nothing below: " + link.hash);
  }
  // Every case can be opened, and says something.
  document.querySelectorAll("details").forEach(d => d.open = true);
  await next();
  for (const d of document.querySelectorAll("details"))
    if (![...d.children].slice(1).some(seen)) said.push("empty: " + d.textContent.slice(0, 80));
  for (const svg of document.querySelectorAll("svg"))
    if (svg.getBoundingClientRect().width < 100) said.push("a plot without a size");
  if (performance.getEntriesByType("resource").length) said.push("something was fetched");
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) said.push("the page is " + wide + " pixels wider than the window");
  const result = document.createElement("pre");
  result.id = "reader";
  result.textContent = links.length + " links; " + (said.join("; ") || "all well");
  document.body.append(result);
});
</script>
SCRIPT

check() {
  page=$1
  dom "$page" >"$dir/dom"
  ! grep -E 'CONSOLE|ERR_' "$dir/log" || fail "the console is not empty"
  # Nothing is loaded from elsewhere, not even by name.
  ! grep -Eo '(src|href|action|data|poster|srcset)="[^"#][^"]*"|@import|url\(|<script|<link|<iframe|https?://[^ <"]*' "$dir/dom" ||
    fail "it refers to something outside"
  [ "$(grep -c '<td class="state"' "$dir/dom")" -gt 0 ] || fail "no matrix of formats"
  grep -q '<th rowspan="[0-9]*"><code>' "$dir/dom" || fail "no operations"
  [ "$(grep -o '<circle' "$dir/dom" | wc -l)" -gt 3 ] || fail "no points in the plots"
  grep -q '<rect class="bar' "$dir/dom" || fail "no bars in the plots"
  ! grep -q 'NaN' <(grep -o '<\(svg\|circle\|rect\|line\) [^>]*>' "$dir/dom") || fail "a plot without coordinates"
  # A link from elsewhere opens what it names: closed before, open after.
  first=$(grep -o 'href="#f[0-9-]*"' "$dir/dom" | head -1 | tr -d '"' | cut -d'#' -f2)
  dom "$page#$first" >"$dir/dom.at"
  [ "$(grep -o '<details open' "$dir/dom.at" | wc -l)" -gt "$(grep -o '<details open' "$dir/dom" | wc -l)" ] ||
    fail "#$first opens nothing"
  for width in 1280 400; do
    cat "$page" "$dir/reader.html" >"$dir/read.html"
    "$browser" "${options[@]}" --window-size=$width,900 --dump-dom "file://$dir/read.html" >"$dir/dom.read" 2>"$dir/log"
    said=$(grep -o '<pre id="reader">[^<]*' "$dir/dom.read" | cut -d'>' -f2) || fail "the reader did not finish"
    [[ $said == [1-9]*" links; all well" ]] || fail "at $width pixels: $said"
  done
  echo "$(basename "$page"): $said"
}

status=0
"$anychip" conformance --op rope --op dequantize --html "$dir/command.html" >"$dir/text" || status=$?
[ "$status" = 0 ] || { cat "$dir/text" >&2; exit 1; }
check "$dir/command.html"
ANYCHIP_PAGE="$dir/outcomes.html" cargo test --quiet -p anychip-conformance --locked --test page >/dev/null
check "$dir/outcomes.html"
for outcome in passed failed unsupported fallback expected; do
  grep -q "class=\"$outcome\"" "$dir/dom" || fail "nothing is $outcome"
done
grep -q '<circle class="out"' "$dir/dom" || fail "no point outside its bound"
echo "the page opens offline, with its console empty and all its links leading somewhere"

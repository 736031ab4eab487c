"""The page of a conformance run, in a real browser: what is seen, what opens, what never runs."""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from conform_results import a_clean_result, a_finding, a_result, an_exchange
from oceanmock.conformance import MissingResponse, Result, StoryStep
from oceanmock.conformance.baseline import Known
from oceanmock.conformance.checks import all_rules
from oceanmock.conformance.reports.files import render_html

pytestmark = pytest.mark.slow

MS = 1_000_000
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ATTACKS = (
    "<script>window.owned=1</script>",
    "<img src=x onerror=window.owned=1>",
    "\"><svg onload=window.owned=1><a href='javascript:window.owned=1'>",
    "</style></pre></title><script>window.owned=1</script>",
    "&lt;script&gt;window.owned=1&lt;/script&gt;",
    "' autofocus onfocus=window.owned=1 x='",
    "<!-- \x00 ]]> <base href=//x.example><meta http-equiv=refresh content=0;url=//x.example>",
)


def chromium(names: Sequence[str] = BROWSERS) -> str:
    """Where the browser is."""
    found = next(filter(None, map(shutil.which, names)), None)
    assert found is not None, (
        "these tests open the page in Chromium, and there is none on this machine. Install it: apt-get install chromium"
    )
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page that is open, and what it said, asked for and tripped over meanwhile."""

    def __init__(self, browser: Browser, path: Path, **how: Any) -> None:
        self.page: Page = browser.new_page(**how)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())


class Opener:
    """Opens pages of results; all are closed when the test is done."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.folder, self.opened = browser, folder, list[Opened]()

    def __call__(self, *results: Result, width: int = 1280, scheme: str = "light", policy: bool = True) -> Opened:
        text = render_html(results or [a_result()])
        path = self.folder / f"page{len(self.opened)}.html"
        assert POLICY in text
        path.write_text(text if policy else text.replace(POLICY, ""), encoding="utf-8")
        how = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        self.opened.append(Opened(self.browser, path, **how))
        return self.opened[-1]


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    opener = Opener(browser, tmp_path)
    yield opener
    for each in opener.opened:
        each.page.close()


def test_where_there_is_no_browser_it_says_what_to_install() -> None:
    with pytest.raises(AssertionError, match="Install it: apt-get install chromium"):
        chromium(["no-such-browser"])


# --- what is seen ---------------------------------------------------------------------------------


def test_the_page_says_at_a_glance_what_came_of_the_run(open_page: Opener) -> None:
    page = open_page().page

    expect(page).to_have_title("FAILED: oceanmock conform, OCP 4.2.2")
    expect(page.locator(".verdict")).to_have_text("FAILED")
    expect(page.locator("header")).to_contain_text("2 findings, 1 known, 2 statuses missing")
    rules = len(all_rules("ocp"))
    tiles = page.locator(".tile strong").all_inner_texts()
    assert tiles == ["2", "2", "1", "3 / 4", f"4 / {rules}", "66", "12.3 s"]
    expect(page.locator(".facts")).to_contain_text("read and write: 3 of 4 operations, 3 of 12 transitions")
    expect(page.locator(".facts")).to_contain_text(a_result().command)
    expect(page.locator(".facts")).to_contain_text("Seed\n7", use_inner_text=True)


def test_every_section_is_there_and_its_link_leads_to_it(open_page: Opener) -> None:
    page = open_page().page

    titles = page.locator("section > h2").all_inner_texts()
    assert titles == [
        "Findings",
        "Missing",
        "Operations × statuses",
        "Rules",
        "State diagrams",
        "Stories",
        "Known deviations",
        "Stale in the baseline",
        "Changes made",
    ]
    page.get_by_role("link", name="Rules").click()
    expect(page.locator("section.rules h2")).to_be_in_viewport()


def test_the_matrix_counts_what_was_answered_and_marks_what_was_not(open_page: Opener) -> None:
    spans = {"listTaskInstances": [3 * MS, MS, 2 * MS], "getTaskInstance": [4 * MS]}
    matrix = open_page(a_result(latencies=spans)).page.locator("section.operations .matrix")

    rows = [row.split("\t") for row in matrix.inner_text().splitlines()]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["operation", "200", "400", "401", "404", "500", "median", "95 %", "longest"],
        ["listTaskInstances", "12", "3", "2", "", "", "2.0 ms", "3.0 ms", "3.0 ms"],
        ["getTaskInstance", "34", "5", "2", "4", "1", "4.0 ms", "4.0 ms", "4.0 ms"],
        ["retryTask", "2", "!", "1", "", "", "", "", ""],
        ["rollbackTask", "!", "", "", "", "", "", "", ""],
    ]
    expect(matrix.locator(".cell.violated")).to_have_text(["34", "1"])


def test_rules_that_were_broken_are_in_the_open_and_the_others_folded(open_page: Opener) -> None:
    rules = open_page().page.locator("section.rules")

    rest = len(all_rules("ocp")) - 4
    expect(rules.locator("> .scroll tbody tr")).to_have_count(3)
    expect(rules.locator("tr.violated").first).to_contain_text("envelope.status")
    expect(rules.locator("tr.violated").first).to_contain_text("The status in the body is that of")
    expect(rules.locator("summary")).to_have_text(["1 rule passed", f"{rest} rules not checked"])
    expect(rules.locator("tr.passed")).to_be_hidden()
    rules.locator("summary").first.click()
    expect(rules.locator("tr.passed")).to_contain_text("parent.out-of-step")


def test_known_deviations_are_folded_by_rule_with_their_reason(open_page: Opener) -> None:
    known = open_page().page.locator("section.known")

    expect(known.locator("summary").first).to_contain_text("time.start-after-finish 1")
    expect(known.locator("summary").first).to_contain_text("this lab's database is a minute slow")
    expect(known.locator(".finding")).to_be_hidden()
    known.locator("summary").first.click()
    expect(known.locator(".finding")).to_be_visible()


def test_the_diagrams_show_what_was_walked_and_what_was_not(open_page: Opener) -> None:
    drawn = open_page().page.locator("section.diagrams .drawn > div")

    expect(drawn.locator("h3")).to_contain_text(["task 3 of", "subtask 1 of"])
    task = drawn.first
    expect(task.locator(".edge.seen")).to_have_count(3)
    assert sorted(task.locator(".label text").all_text_contents()) == ["1", "2", "3"]
    expect(drawn.nth(1).locator(".edge.unseen").first).to_be_visible()
    expect(drawn.nth(1).locator(".node.unknown")).to_contain_text("EXPLODED")
    expect(drawn.nth(1).locator(".edge.leap, .edge.odd")).to_have_count(2)
    dashes = "element => getComputedStyle(element).strokeDasharray"
    assert task.locator(".edge.seen path").first.evaluate(dashes) == "none"
    assert drawn.nth(1).locator(".edge.unseen path").first.evaluate(dashes) != "none"


def test_two_runs_stand_below_each_other(open_page: Opener) -> None:
    page = open_page(a_clean_result(), a_clean_result(api="obshell", version="4.5.0.0")).page

    expect(page.locator(".verdict")).to_have_text(["PASSED", "PASSED"])
    expect(page.locator("h1")).to_contain_text(["OCP 4.2.2", "obshell 4.5.0.0"])
    assert "Missing" not in page.locator("h2").all_inner_texts()
    expect(page.locator("#run2-diagrams h3")).to_contain_text(["dag", "node", "sub_task"])
    expect(page.locator("footer")).to_contain_text("exit code 0")


# --- what opens -----------------------------------------------------------------------------------


def test_a_finding_opens_to_its_request_and_answer(open_page: Opener) -> None:
    page = open_page().page
    finding = page.locator("section.findings details").first
    inside = finding.locator(".inside")
    expect(inside).to_be_hidden()

    finding.locator("summary").click()

    expect(inside).to_be_visible()
    expect(finding.locator(".source")).to_have_text("ocp.yaml, components/schemas/Envelope")
    expect(finding.locator(".request")).to_contain_text("GET /api/v2/tasks/instances/1000?x=1")
    expect(finding.locator(".request")).to_contain_text("Authorization: Basic ***")
    expect(finding.locator(".response")).to_contain_text("200 in 3.4 ms")
    expect(finding.locator(".response")).to_contain_text('"name": "Upgrade 中"')
    expect(inside).to_contain_text("curl -s -u manager:$OCEANMOCK_PASSWORD")
    finding.locator("summary").click()
    expect(inside).to_be_hidden()


def test_a_finding_about_two_responses_shows_both_with_the_member_marked(open_page: Opener) -> None:
    earlier = an_exchange(response_body=b'{"data":{"contents":[{"name":"old","id":7}]}}')
    later = an_exchange(2, response_body=b'{"data":{"name":"new","id":7}}')
    found = a_finding(path="$.data.name", exchange=later, earlier=(earlier, "$.data.contents[0].name"))
    finding = open_page(a_result(findings=[found])).page.locator("section.findings details").first

    finding.locator("summary").click()

    expect(finding.locator("h4")).to_contain_text(["Reproduce", "Earlier: Request 1", "Earlier: Response", "Request 2"])
    expect(finding.locator("mark")).to_have_text(['"old"', '"new"'])


def one_cause(count: int) -> list[Any]:
    """Findings of one cause."""
    return [a_finding("time.format", operation="listTaskInstances", path=f"$.data[{n}]") for n in range(count)]


def test_findings_of_one_cause_are_one_group_and_most_of_them_folded(open_page: Opener) -> None:
    causes = open_page(a_result(findings=one_cause(94))).page.locator("section.findings .cause")

    expect(causes).to_have_count(1)
    expect(causes.locator("h3")).to_contain_text("time.format × 94")
    expect(causes.locator("> .finding")).to_have_count(5)
    expect(causes.locator("> details:not(.finding) > summary")).to_have_text("89 more places")


def test_the_filters_hide_causes_of_another_severity_or_operation(open_page: Opener) -> None:
    result = a_result(findings=[*a_result().findings, *one_cause(1)])
    page = open_page(result).page
    shown = page.locator("section.findings .cause:visible code")
    severity, operation = page.locator(".filter select").all()

    expect(shown).to_have_text(["envelope.status", "time.format", "hostile.500"])
    severity.select_option("warning")
    expect(shown).to_have_text(["hostile.500"])
    severity.select_option("all")
    operation.select_option("listTaskInstances")
    expect(shown).to_have_text(["time.format"])


def test_nothing_known_is_red(open_page: Opener) -> None:
    found = a_result()
    result = a_result(findings=[], known=[replace(item, known="so it is") for item in found.findings], stories={})
    page = open_page(result).page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    reds = """() => [...document.querySelectorAll('main *')].filter(each => {
        const style = getComputedStyle(each), red = 'rgb(179, 38, 30)', back = 'rgb(252, 232, 230)';
        const colours = [style.color, style.fill, style.stroke, style.borderLeftColor, style.backgroundColor];
        return colours.includes(red) || colours.includes(back);
    }).map(each => each.outerHTML)"""
    assert page.evaluate(reds) == []


def test_what_was_changed_is_in_the_open_and_what_was_refused_folded(open_page: Opener) -> None:
    calls = [an_exchange(n, method="POST", status=400) for n in range(4, 9)]
    changes = open_page(a_result(changes=[*a_result().changes, *calls])).page.locator(".changes")

    expect(changes.locator("summary")).to_have_text(["1 request accepted", "5 requests refused"])
    accepted, refused = changes.locator("tbody").all()
    expect(accepted).to_contain_text("POST /api/v2/tasks/instances/1000/retry")
    expect(accepted).to_be_visible()
    expect(refused).to_be_hidden()
    changes.locator("summary").nth(1).click()
    expect(refused.locator("tr")).to_have_count(5)
    expect(refused).to_be_visible()


def test_a_story_that_failed_is_in_the_open_and_one_that_held_folded(open_page: Opener) -> None:
    held = {"join-agent": [StoryStep("until dag 1 is SUCCEED", "passed")]}
    stories = open_page(a_result(stories={**a_result().stories, **held})).page.locator(".stories")

    expect(stories.locator("summary")).to_have_text(
        ["retry-failed-subtask 3 steps, failed", "join-agent 1 step, passed"]
    )
    expect(stories.locator("li.failed")).to_have_text("retryTask 1000 failed in 1.0 s: answered 409, expected 200")
    expect(stories.locator("li.failed")).to_be_visible()
    expect(stories.locator("details").nth(1).locator("li")).to_be_hidden()


def test_every_step_of_a_machine_is_listed_below_its_diagram(open_page: Opener) -> None:
    steps = open_page().page.locator("section.diagrams details").first

    steps.locator("summary").click()

    cells = steps.locator("tbody tr").first.locator("td")
    expect(cells).to_have_text(["RUNNING/EXECUTE", "FAILED/EXECUTE", "time", "3"])
    expect(steps.locator("tbody tr.unseen").first).to_be_visible()


# --- what never happens ---------------------------------------------------------------------------


def hostile(text: str) -> Result:
    """A run in which every text that can come from outside is the same attack."""
    exchange = an_exchange(
        operation=text,
        method=text,
        target=text,
        problem=text,
        request_headers=((text, text),),
        request_body=text.encode(),
        response_headers=((text, text),),
        response_body=text.encode(),
    )
    finding = a_finding(text, operation=text, path=text, message=text, source=text, curl=text, exchange=exchange)
    finding = replace(finding, earlier=(exchange, text))
    return a_result(
        target=text,
        version=text,
        command=text,
        started=text,
        statuses={text: Counter({200: 1})},
        checked=Counter({(text, ""): 1}),
        findings=[finding],
        known=[replace(finding, known=text)],
        stale=[Known(text, text, text)],
        missing=[MissingResponse(text, 400, text)],
        changes=[exchange],
        transitions=Counter({(text, text, text + "2"): 1, ("task", text, "RUNNING"): 1}),
        labels=Counter({("task", text): 1}),
        stories={text: [StoryStep(text, "failed", text)]},
        phases={text: 1},
        baselines=[text],
    )


@pytest.mark.parametrize("policy", [True, False], ids=["with-policy", "escaping-alone"])
def test_nothing_that_a_server_answers_runs_in_the_page(policy: bool, open_page: Opener) -> None:
    opened = open_page(*map(hostile, ATTACKS), policy=policy)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    assert page.evaluate("window.owned") is None
    expect(page.locator("script, img, iframe, base, object, [onload], [onerror]")).to_have_count(0)
    expect(page.locator("meta[http-equiv=refresh], [onfocus], a:not([href^='#'])")).to_have_count(0)
    assert (opened.said, len(opened.asked)) == ([], 1)
    shown = page.locator("section.findings .response .body").all_inner_texts()
    assert shown == [attack.replace("\x00", "\\x00") for attack in ATTACKS for _ in ("earlier", "this")]


def test_the_page_needs_nothing_and_says_nothing(open_page: Opener) -> None:
    opened = open_page(a_result(), a_clean_result(api="obshell"))
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.wait_for_load_state("networkidle")

    assert opened.said == []
    assert opened.asked == [page.url]
    assert page.locator("link").evaluate_all("links => links.map(each => each.href)") == ["data:,"]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_never_scrolls_sideways(width: int, open_page: Opener) -> None:
    long = a_finding(path="data." + "x" * 400, message="y" * 400, curl="curl " + "z" * 400)
    named = {"n" * 90: Counter(dict.fromkeys(range(200, 240), 1_000_000))}
    crowded = a_result(findings=[long], statuses=named, command="c" * 400, target="t" * 300)
    page = open_page(a_result(), crowded, a_clean_result(api="obshell"), width=width).page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = "els => els.filter(e => e.getBoundingClientRect().right > innerWidth).length"
    assert page.locator("header, section, .tiles, .facts, nav, pre, summary").evaluate_all(wide) == 0


# --- how it looks ---------------------------------------------------------------------------------


def pixels(browser: Browser, png: bytes, points: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    """A picture's width, height, number of colours, and the colours at some points."""
    page = browser.new_page()
    found = page.evaluate(
        """async ([data, points]) => {
            const image = new Image();
            image.src = data;
            await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height);
            const brush = canvas.getContext("2d");
            brush.drawImage(image, 0, 0);
            const all = brush.getImageData(0, 0, image.width, image.height).data;
            const colours = new Set();
            for (let i = 0; i < all.length; i += 4)
                colours.add(all[i] << 16 | all[i + 1] << 8 | all[i + 2]);
            const at = ([x, y]) => Array.from(brush.getImageData(x, y, 1, 1).data.slice(0, 3));
            return [image.width, image.height, colours.size, points.map(at)];
        }""",
        [f"data:image/png;base64,{base64.b64encode(png).decode()}", points],
    )
    page.close()
    return tuple(found)


@pytest.mark.parametrize(
    ("scheme", "back", "card"), [("light", [246, 247, 249], [255, 255, 255]), ("dark", [20, 23, 28], [28, 32, 39])]
)
def test_a_screenshot_has_the_regions_it_should(
    scheme: str, back: list[int], card: list[int], open_page: Opener, browser: Browser
) -> None:
    page = open_page(scheme=scheme).page
    boxes = {
        name: page.locator(name).first.bounding_box()
        for name in ("header", ".tiles", "section.findings", "section.operations", "svg.diagram")
    }
    header, findings = boxes["header"], boxes["section.findings"]
    assert header is not None
    assert findings is not None
    inside_header = (int(header["x"] + header["width"] - 20), int(header["y"] + 8))
    inside_card = (int(findings["x"] + findings["width"] - 20), int(findings["y"] + 10))

    png = page.screenshot(full_page=True)

    width, height, colours, seen = pixels(browser, png, [(2, 2), inside_header, inside_card])
    assert width == 1280
    assert 1500 < height < 5000
    assert colours > 100
    assert seen[0] == back
    assert seen[1] not in (back, card), "the verdict has a colour of its own"
    assert seen[2] == card
    tops = [box["y"] for box in boxes.values() if box]
    assert tops == sorted(tops)
    assert len(tops) == len(boxes)
    assert header["y"] < 60
    assert 1000 < header["width"] <= 1180


def test_columns_stand_side_by_side_where_there_is_room(open_page: Opener) -> None:
    def sides(width: int) -> tuple[float, float]:
        page = open_page(width=width).page
        page.locator("section.findings summary").first.click()
        request = page.locator(".request").first.bounding_box()
        response = page.locator(".response").first.bounding_box()
        assert request is not None
        assert response is not None
        return response["x"] - request["x"], response["y"] - request["y"]

    across, down = sides(1280)
    assert (across > 300, down) == (True, 0)
    across, down = sides(400)
    assert (across, down > 50) == (0, True)

"""A page that is watched: what it is still waiting for, and what our scripts complain about."""

from __future__ import annotations

import time

from playwright.sync_api import ConsoleMessage, Page, Request, WebSocket
from playwright.sync_api import Error as PageError

OURS = "layerdiffuse"  # In the address or text of whatever our own scripts report.
LONGEST = 90.0  # Seconds that anything but a job may take.
_QUIET = 4  # Looks without a request after which the page has everything.
_IDLE = "() => new Promise(done => requestIdleCallback(done, {timeout: 5000}))"
_CLOCKS = ("/heartbeat/", "/internal/")  # What the page asks for all the time.
_STREAM = "/queue/data"  # Gradio may open one more when all is answered; it then stays open.
_COUNT_EVENTS = """
    const {fetch} = window, asked = new Set(), answered = new Set();
    window.openEvents = () => [...asked].filter(id => !answered.has(id)).length;
    async function read(body) {
        let text = "";
        for await (const part of body.pipeThrough(new TextDecoderStream())) {
            const lines = (text + part).split("\\n");
            text = lines.pop();
            for (const line of lines.filter(one => one.startsWith("data:"))) {
                const {msg, event_id} = JSON.parse(line.slice(5));
                if (msg === "process_completed") answered.add(event_id);
            }
        }
    }
    window.fetch = async (...request) => {
        const answer = await fetch(...request), {url} = answer;
        if (url.includes("/queue/join")) asked.add((await answer.clone().json()).event_id);
        if (url.includes("/queue/data")) read(answer.clone().body).catch(() => {});
        return answer;
    };
"""


class WatchedPage:
    """One page.

    Attributes:
        page: Playwright's page, for what has no method here.
        errors: What our scripts have reported on the console.
    """

    def __init__(self, page: Page) -> None:
        """Watches a fresh page."""
        self.page = page
        self.errors: list[str] = []
        self._running: set[Request | WebSocket] = set()
        page.add_init_script(f"(() => {{{_COUNT_EVENTS}}})()")
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)
        page.on("request", self._on_request)
        page.on("requestfinished", self._on_answer)
        page.on("requestfailed", self._on_answer)
        page.on("websocket", self._on_socket)

    def _on_request(self, request: Request) -> None:
        self._running.add(request)

    def _on_answer(self, request: Request | WebSocket) -> None:
        self._running.discard(request)

    def _on_socket(self, socket: WebSocket) -> None:
        """Notes one of gradio 3's queue, which opens one for each event until it is answered."""
        self._running.add(socket)
        socket.on("close", self._on_answer)

    def _on_console(self, message: ConsoleMessage) -> None:
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and OURS in text.lower():
            self.errors.append(text)

    def _on_error(self, error: PageError) -> None:
        text = f"{error.message}\n{error.stack}"
        if OURS in text.lower():
            self.errors.append(text)

    def forget(self) -> None:
        """Waits no longer for what was asked: a page that is left hears of no answers."""
        self._running.clear()

    def settle(self) -> None:
        """Waits until the page has answers to all that it has asked, and shows them."""
        deadline, quiet = time.monotonic() + LONGEST, 0
        while quiet < _QUIET:
            assert time.monotonic() < deadline, [request.url for request in self._running]
            self.page.evaluate(_IDLE)
            self.page.wait_for_timeout(100)
            quiet = 0 if self._busy() else quiet + 1

    def _busy(self) -> bool:
        """Whether an answer is missing, to a request or to an event that gradio has queued."""
        quiet = (*_CLOCKS, _STREAM)
        waits = any(not any(part in request.url for part in quiet) for request in self._running)
        return waits or bool(self.page.evaluate("() => openEvents()"))

// What the panel lacks for the keyboard and for screen readers. Gradio 3 gives its headings no
// focus, and the number fields of its sliders no name.

(function() {
    "use strict";

    const PANEL = ".input-accordion[id$=layerdiffuse_enabled]";

    function nameSlots(panel) {
        for (const slot of panel.querySelectorAll(".layerdiffuse-slot")) {
            slot.setAttribute("role", "group");
            const label = slot.querySelector("[data-testid=block-label]");
            slot.setAttribute("aria-label", label.textContent.trim());
        }
    }

    function nameNumbers(panel) {
        for (const field of panel.querySelectorAll("input[type=number]:not([aria-label])")) {
            const label = field.closest(".block").querySelector("[data-testid=block-info]");
            field.setAttribute("aria-label", label.textContent.trim());
        }
    }

    function openByKeyboard(heading) {
        const tell = () => heading.setAttribute("aria-expanded", heading.classList.contains("open"));
        heading.tabIndex = 0;
        heading.setAttribute("role", "button");
        heading.addEventListener("keydown", event => {
            if (event.target !== heading || !["Enter", " "].includes(event.key)) return;
            event.preventDefault();
            heading.click();
        });
        new MutationObserver(tell).observe(heading, {attributeFilter: ["class"]});
        tell();
    }

    onUiLoaded(() => {
        for (const panel of document.querySelectorAll(PANEL)) {
            nameSlots(panel);
            nameNumbers(panel);
            const heading = panel.querySelector(".label-wrap");
            if (heading.tagName !== "BUTTON") openByKeyboard(heading);
        }
    });
})();

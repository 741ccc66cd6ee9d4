// The panel's image slots: an image of the page can be dropped on one, and a copied one pasted
// into the one under the pointer. Files from outside, and the first empty slot, are the WebUI's.

(function() {
    const SLOT = ".layerdiffuse-slot";

    function slotOf(event) {
        const target = event.composedPath()[0];
        return target instanceof Element ? target.closest(SLOT) : null;
    }

    function nextFrame() {
        return new Promise(resolve => requestAnimationFrame(resolve));
    }

    async function fileInput(slot) {
        let input = slot.querySelector("input[type=file]");
        if (!input) { // Older pages take it away while there is an image.
            [...slot.querySelectorAll("button")].pop()?.click();
            for (let tries = 0; tries < 30 && !input; tries++) {
                await nextFrame();
                input = slot.querySelector("input[type=file]");
            }
        }
        return input;
    }

    async function put(slot, file) {
        const input = await fileInput(slot);
        const files = new DataTransfer();
        files.items.add(file);
        input.files = files.files;
        input.dispatchEvent(new Event("change"));
    }

    async function putFrom(slot, url) {
        const answer = await fetch(url);
        if (!answer.ok) throw new Error(`LayerDiffuse: ${url} was answered with ${answer.status}`);
        const blob = await answer.blob();
        const name = decodeURIComponent(new URL(url).pathname.split("/").pop()) || "image.png";
        await put(slot, new File([blob], name, {type: blob.type}));
    }

    // The address of an image of this page that is dragged, or null: never one of another site.
    function draggedImage(transfer) {
        const url = transfer.getData("text/uri-list").split("\n")[0].trim();
        return url && new URL(url).origin === location.origin ? url : null;
    }

    document.addEventListener("dragover", event => {
        if (slotOf(event)) event.preventDefault();
    }, true);

    document.addEventListener("drop", event => {
        const slot = slotOf(event);
        const url = slot && draggedImage(event.dataTransfer);
        if (!url) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        putFrom(slot, url).catch(error => console.error(error));
    }, true);

    document.addEventListener("paste", event => {
        const slot = document.querySelector(`${SLOT}:hover`) || document.activeElement?.closest(SLOT);
        const file = [...event.clipboardData.files].find(one => one.type.startsWith("image/"));
        if (!slot || !file) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        put(slot, file).catch(error => console.error(error));
    }, true);
})();

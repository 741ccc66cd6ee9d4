// What the page's galleries and files hold, in the shapes of gradio 3 and of gradio 4.

(function() {
    "use strict";

    const CHANGED = /\?[\d.]+$/; // When a file was changed, which the WebUI writes behind its path.

    function pathOf(file) {
        return file.path || (file.is_file ? file.name : "");
    }

    // The address of a file that the page has been given; its path may hold any character.
    function address(file) {
        const path = pathOf(file);
        if (!path) return file.data || file.url;
        const [changed = ""] = path.match(CHANGED) || [];
        const parts = path.replace(CHANGED, "").split("/");
        return `file=${parts.map(encodeURIComponent).join("/")}${changed}`;
    }

    function name(file) {
        const place = pathOf(file) || file.name || decodeURIComponent(file.url || "");
        return place.replace(CHANGED, "").replace(/^.*[/\\]/, "");
    }

    // Returns where a gallery's item or a file is to be had, its name, and its caption, if any.
    window.layerdiffuseFile = function(item) {
        const [file, caption] = Array.isArray(item) ? item : [item.image || item, item.caption];
        return {address: address(file), name: name(file), caption};
    };
})();

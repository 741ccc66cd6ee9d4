// The composite view below the gallery: a foreground over its background, a colour or an image,
// moved and scaled by the user. What is drawn at full resolution is what is downloaded.

(function() {
    "use strict";

    const MIN_SCALE = 0.05, MAX_SCALE = 4, WHEEL_STEP = 1.05, FAR = 10;
    const TALLEST = 0.75; // Of the window's height.
    const views = {};

    function element(tag, properties, ...children) {
        const made = Object.assign(document.createElement(tag), properties);
        made.append(...children);
        return made;
    }

    function give(href, name) {
        element("a", {href, download: name}).click();
    }

    async function bitmap(address) {
        const answer = await fetch(address);
        if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
        return createImageBitmap(await answer.blob(), {colorSpaceConversion: "none"});
    }

    class CompositeView {
        constructor(tab, place) {
            this.layers = {};
            this.picture = null;
            this.canvas = element("canvas", {tabIndex: 0});
            this.canvas.setAttribute("role", "img");
            this.context = this.canvas.getContext("2d");
            this.build(tab);
            this.listen();
            place.replaceChildren(this.root);
        }

        build(tab) {
            const name = part => `layerdiffuse_composite_${tab}_${part}`;
            this.over = element("select", {id: name("over")});
            this.colour = element("input", {type: "color", value: "#3478c8", id: name("colour")});
            this.file = element("input", {type: "file", accept: "image/*", hidden: true});
            this.choose = element("button", {type: "button", textContent: "Choose file"});
            this.scale = element("input", {
                type: "range", min: MIN_SCALE * 100, max: MAX_SCALE * 100, step: 1, id: name("scale"),
            });
            this.percent = element("output", {htmlFor: name("scale")});
            this.reset = element("button", {type: "button", textContent: "Reset"});
            this.save = element("button", {type: "button", textContent: "Download"});
            this.close = element("button", {type: "button", textContent: "Close"});
            this.hint = element("p", {
                id: name("hint"),
                textContent: "Drag the foreground to move it. With the image in focus: wheel or " +
                    "+ and - to scale, arrow keys to nudge (with Shift by ten pixels), 0 to reset.",
            });
            this.error = element("p", {className: "layerdiffuse-error"});
            this.error.setAttribute("role", "alert");
            this.canvas.setAttribute("aria-label", "Composite");
            this.canvas.setAttribute("aria-describedby", this.hint.id);
            this.root = element(
                "div", {hidden: true},
                element(
                    "div", {className: "layerdiffuse-tools"},
                    element("label", {}, element("span", {textContent: "Over"}), this.over),
                    this.colour, this.choose, this.file,
                    element("span", {className: "layerdiffuse-buttons"}, this.reset, this.save, this.close),
                    element(
                        "label", {className: "layerdiffuse-size"},
                        element("span", {textContent: "Size"}), this.scale, this.percent
                    )
                ),
                this.canvas, this.hint, this.error
            );
        }

        listen() {
            this.over.addEventListener("change", () => this.backdrop());
            this.colour.addEventListener("input", () => this.draw());
            this.choose.addEventListener("click", () => this.file.click());
            this.file.addEventListener("change", () => this.read());
            this.scale.addEventListener("input", () => this.zoom(this.scale.value / 100));
            this.reset.addEventListener("click", () => this.centre());
            this.save.addEventListener("click", () => this.download());
            this.close.addEventListener("click", () => {
                this.root.hidden = true;
            });
            this.canvas.addEventListener("pointerdown", event => this.grab(event));
            this.canvas.addEventListener("pointermove", event => this.drag(event));
            for (const end of ["pointerup", "pointercancel"]) {
                this.canvas.addEventListener(end, () => {
                    this.held = null;
                });
            }
            this.canvas.addEventListener("wheel", event => this.wheel(event), {passive: false});
            this.canvas.addEventListener("keydown", event => this.key(event));
            new ResizeObserver(() => this.fit()).observe(this.root);
            window.addEventListener("resize", () => this.fit());
        }

        async show(files) {
            this.error.textContent = "";
            try {
                const read = {}, given = files.map(layerdiffuseFile);
                for (const {caption, address} of given) read[caption] = await bitmap(address);
                this.layers = read;
                this.name = given[0].name.replace(/(-fg)?\.\w+$/, "");
            } catch (error) {
                this.layers = {};
                this.error.textContent = `The layers cannot be read: ${error.message}`;
            }
            this.root.hidden = false;
            this.canvas.hidden = !this.layers.fg;
            if (this.layers.fg) this.offer();
            this.root.scrollIntoView({block: "nearest"});
        }

        // Offers the backdrops that there are, and keeps the one that was chosen.
        offer() {
            const names = {bg: "Background", board: "Checkerboard", colour: "Colour", picture: "Image"};
            if (!this.layers.bg) delete names.bg;
            const before = this.over.value;
            this.over.replaceChildren(
                ...Object.entries(names).map(([value, text]) => new Option(text, value))
            );
            this.over.value = before in names ? before : Object.keys(names)[0];
            this.size = null;
            this.backdrop();
        }

        under() {
            return {bg: this.layers.bg, picture: this.picture}[this.over.value];
        }

        // Takes on a backdrop's size; another size is another place for the foreground.
        backdrop() {
            this.colour.hidden = this.over.value !== "colour";
            this.choose.hidden = this.over.value !== "picture";
            const {width, height} = this.under() || this.layers.fg;
            if (this.size !== `${width}x${height}`) {
                this.size = `${width}x${height}`;
                Object.assign(this.canvas, {width, height});
                this.fit();
                this.centre();
            } else {
                this.draw();
            }
        }

        // Shows a small image larger, in whole steps so that its pixels stay even, and fits a large
        // one. What is drawn keeps its own size.
        fit() {
            const {width, height} = this.canvas, room = this.root.clientWidth;
            if (!room) return;
            const most = Math.min(room / width, TALLEST * window.innerHeight / height);
            const step = most < 1 ? most : Math.floor(most);
            this.canvas.style.width = `${width * step}px`;
            this.canvas.classList.toggle("layerdiffuse-enlarged", step > 1);
        }

        async read() {
            const [file] = this.file.files;
            if (!file) return;
            try {
                this.picture = await createImageBitmap(file);
                this.error.textContent = "";
            } catch {
                this.error.textContent = "The browser cannot read this file as an image.";
            }
            this.backdrop();
        }

        // Puts the foreground in the middle, as large as it fits; on its own background it is 100 %.
        centre() {
            const {width, height} = this.canvas, {fg} = this.layers;
            this.x = width / 2;
            this.y = height / 2;
            this.zoom(Math.min(width / fg.width, height / fg.height));
        }

        zoom(factor, x = this.x, y = this.y) {
            const before = this.factor || factor;
            this.factor = Math.min(MAX_SCALE, Math.max(MIN_SCALE, factor));
            this.x = x + (this.x - x) * this.factor / before;
            this.y = y + (this.y - y) * this.factor / before;
            this.draw();
        }

        move(dx, dy) {
            this.x += dx;
            this.y += dy;
            this.draw();
        }

        draw() {
            const {canvas, context, layers: {fg}} = this, under = this.under();
            if (!fg) return;
            context.clearRect(0, 0, canvas.width, canvas.height);
            if (under) context.drawImage(under, 0, 0);
            if (this.over.value === "colour") {
                context.fillStyle = this.colour.value;
                context.fillRect(0, 0, canvas.width, canvas.height);
            }
            const width = Math.round(fg.width * this.factor), height = Math.round(fg.height * this.factor);
            context.imageSmoothingQuality = "high";
            const left = Math.round(this.x - width / 2), top = Math.round(this.y - height / 2);
            context.drawImage(fg, left, top, width, height);
            this.scale.value = Math.round(this.factor * 100);
            this.percent.textContent = `${Math.round(this.factor * 100)} %`;
        }

        // Returns an event's place in the image's own pixels.
        at(event) {
            const shown = this.canvas.getBoundingClientRect();
            const ratio = this.canvas.width / shown.width;
            return [(event.clientX - shown.left) * ratio, (event.clientY - shown.top) * ratio];
        }

        grab(event) {
            this.canvas.focus();
            this.canvas.setPointerCapture(event.pointerId);
            this.held = this.at(event);
        }

        drag(event) {
            if (!this.held) return;
            const [x, y] = this.at(event), [x0, y0] = this.held;
            this.held = [x, y];
            this.move(x - x0, y - y0);
        }

        wheel(event) {
            if (document.activeElement !== this.canvas) return;
            event.preventDefault();
            this.zoom(this.factor * (event.deltaY < 0 ? WHEEL_STEP : 1 / WHEEL_STEP), ...this.at(event));
        }

        key(event) {
            const step = event.shiftKey ? FAR : 1;
            const acts = {
                ArrowLeft: () => this.move(-step, 0),
                ArrowRight: () => this.move(step, 0),
                ArrowUp: () => this.move(0, -step),
                ArrowDown: () => this.move(0, step),
                "+": () => this.zoom(this.factor * WHEEL_STEP),
                "=": () => this.zoom(this.factor * WHEEL_STEP),
                "-": () => this.zoom(this.factor / WHEEL_STEP),
                "0": () => this.centre(),
            };
            if (!(event.key in acts) || event.ctrlKey || event.metaKey || event.altKey) return;
            event.preventDefault();
            event.stopPropagation();
            acts[event.key]();
        }

        download() {
            this.canvas.toBlob(blob => {
                const href = URL.createObjectURL(blob);
                give(href, `${this.name}-composite.png`);
                setTimeout(() => URL.revokeObjectURL(href), 60000);
            }, "image/png");
        }
    }

    window.layerdiffuseComposite = {
        // Shows a set's layers: files with the captions "fg" and "bg". Without any it stays as it is.
        show(tab, files) {
            if (!files || !files.length) return;
            const place = gradioApp().querySelector(`#layerdiffuse_composite_${tab} .layerdiffuse-composite`);
            if (!views[tab] || !views[tab].root.isConnected) views[tab] = new CompositeView(tab, place);
            views[tab].show(files);
        },
        // Says on the button that opens the view what it does, or why it is off.
        explain(tab, why) {
            const button = gradioApp().getElementById(`layerdiffuse_view_${tab}`);
            if (button) button.title = localization[why] || why;
        },
        // Gives a file of layers to the user. Without any, the page says why.
        save(file) {
            if (!file) return;
            const {address, name} = layerdiffuseFile(file);
            give(address, name);
        },
    };
})();

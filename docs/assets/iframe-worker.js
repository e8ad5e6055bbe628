// Lets the search run where pages are opened from a folder: browsers start no worker from there, so a frame stands in for it.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      this.ready = new Promise((done) => { frame.onload = () => done(frame.contentWindow); });
      const script = new URL(url, location.href).href;
      frame.srcdoc = `<script>self.postMessage = (data) => parent.postMessage(data, "*")</script><script src="${script}"></script>`;
      addEventListener("message", (event) => {
        if (event.source === frame.contentWindow) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      document.body.append(frame);
    }
    postMessage(data) {
      this.ready.then((worker) => worker.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {}
  };
}

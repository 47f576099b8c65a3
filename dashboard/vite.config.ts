// The build: one page, hashed assets, nothing inline, so that the page needs no exception in its policy.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    outDir: process.env["DASHBOARD_OUT"] ?? "../services/callsheet/gateway/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    license: { fileName: "assets/licenses.md" },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});

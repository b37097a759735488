/** Builds the dashboard: `src/dashboard` into `dist/dashboard`, from where the API serves it. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  root: fileURLToPath(new URL('src/dashboard', import.meta.url)),
  base: '/',
  logLevel: 'warn',
  build: {
    outDir: fileURLToPath(new URL('dist/dashboard', import.meta.url)),
    emptyOutDir: true,
    target: 'es2023',
    // What is inlined as data: would need more of the content security policy than 'self'.
    assetsInlineLimit: 0,
    modulePreload: false,
    // Theirs that is in it.
    license: { fileName: 'licenses.md' },
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});

/** Light, dark, or as the system has it. */
import { useEffect, useState } from 'preact/hooks';

const KEY = 'hostevac.theme';
const THEMES = ['system', 'light', 'dark'] as const;
type Theme = (typeof THEMES)[number];

function kept(): Theme {
  return THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? 'system';
}

/** Before the first paint. */
export function applyTheme(theme: Theme = kept()): void {
  if (theme === 'system') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.setAttribute('data-theme', theme);
  document.dispatchEvent(new Event('hostevac:theme'));
}

export function ThemeChoice() {
  const [theme, setTheme] = useState<Theme>(kept);
  useEffect(() => {
    localStorage.setItem(KEY, theme);
    applyTheme(theme);
  }, [theme]);
  return (
    <label class="theme">
      <span class="unseen">Colours</span>
      <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
        <option value="system">System</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}

/** Charts are painted, not styled: they are painted anew when the colours change. */
export function onColours(listener: () => void): () => void {
  const system = matchMedia('(prefers-color-scheme: dark)');
  system.addEventListener('change', listener);
  document.addEventListener('hostevac:theme', listener);
  return () => {
    system.removeEventListener('change', listener);
    document.removeEventListener('hostevac:theme', listener);
  };
}

/** Starts the dashboard. */
import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/tokens.css';
import './styles/base.css';
import './styles/parts.css';
import './styles/pages.css';
import { App } from './app.tsx';
import { Server } from './net/server.ts';
import { applyTheme } from './parts/theme.tsx';

applyTheme();
const root = document.getElementById('app');
if (root === null) throw new Error('the page has no place for the dashboard');
render(<App server={new Server()} />, root);

/** The frame around every page: navigation, whether the server can be reached, who we are, and the page itself. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { hrefOf, parseRoute, type Route } from './lib/route.ts';
import { clockText, printable } from './lib/words.ts';
import { ServerContext, useServer, useSession } from './net/hooks.ts';
import type { Server } from './net/server.ts';
import { AuditPage } from './pages/audit.tsx';
import { EvacuatePage } from './pages/evacuate.tsx';
import { FleetPage } from './pages/fleet.tsx';
import { HostPage } from './pages/host.tsx';
import { MigrationPage } from './pages/migration.tsx';
import { OperationPage } from './pages/operation.tsx';
import { OperationsPage } from './pages/operations.tsx';
import { RebalancePage } from './pages/rebalance.tsx';
import { SignIn } from './pages/sign-in.tsx';
import { WhatIfPage } from './pages/what-if.tsx';
import { AnnounceContext } from './parts/announce.tsx';
import { Empty, Loading, PageHead } from './parts/small.tsx';
import { ThemeChoice } from './parts/theme.tsx';

export function App({ server }: { readonly server: Server }) {
  const [said, setSaid] = useState('');
  const announce = useCallback((text: string) => {
    // The same words again are read again only when the text has changed.
    setSaid((before) => (before === text ? `${text}\u00a0` : text));
  }, []);
  useEffect(() => {
    const seen = (): void => {
      if (document.hidden) server.stop();
      else void server.start();
    };
    seen();
    document.addEventListener('visibilitychange', seen);
    return () => document.removeEventListener('visibilitychange', seen);
  }, [server]);
  return (
    <ServerContext.Provider value={server}>
      <AnnounceContext.Provider value={announce}>
        <Frame announce={announce} />
        <output class="unseen" aria-live="polite">
          {said}
        </output>
      </AnnounceContext.Provider>
    </ServerContext.Provider>
  );
}

function Frame({ announce }: { readonly announce: (text: string) => void }) {
  const route = useRoute();
  const { link, me, refused } = useSession();
  const away = link.state === 'away' ? link : null;
  const wasAway = useRef(false);
  useEffect(() => {
    if (away !== null) announce(awayText(away.sinceMs));
    else if (wasAway.current) announce('Connected again.');
    wasAway.current = away !== null;
  }, [away, announce]);
  return (
    <>
      {/* biome-ignore lint/a11y/useValidAnchor: it goes to a place of this page, but the address is the page's */}
      <a class="skip" href="#main" onClick={skip}>
        Skip to the page
      </a>
      <header class="top">
        <a class="brand" href="#/">
          <span class="brand-mark" aria-hidden="true" />
          hostevac
        </a>
        <nav aria-label="Pages">
          <NavLink to="fleet" route={route} text="Fleet" />
          <NavLink to="operations" route={route} text="Operations" />
          <NavLink to="rebalance" route={route} text="Rebalance" />
          {me?.role === 'admin' && <NavLink to="audit" route={route} text="Audit" />}
        </nav>
        <div class="top-end">
          <Who />
          <ThemeChoice />
        </div>
      </header>
      {away !== null && (
        <div class="banner" role="status">
          {awayText(away.sinceMs)} <span class="banner-why">({printable(away.why)}; trying again)</span>
        </div>
      )}
      <main id="main" tabIndex={-1}>
        {refused ? (
          <SignIn />
        ) : me === null ? (
          <Loading what="the fleet" />
        ) : (
          <Page route={route} key={window.location.hash} />
        )}
      </main>
    </>
  );
}

function awayText(sinceMs: number): string {
  return `Not connected since ${clockText(sinceMs)}; what you see is of then.`;
}

/** The address is the page's: a skip link must not change it. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

type Section = 'fleet' | 'operations' | 'rebalance' | 'audit';
const SECTIONS: Readonly<Record<Route['page'], Section | null>> = {
  fleet: 'fleet',
  host: 'fleet',
  evacuate: 'fleet',
  whatIf: 'fleet',
  operations: 'operations',
  operation: 'operations',
  migration: 'operations',
  rebalance: 'rebalance',
  audit: 'audit',
  unknown: null,
};

function NavLink({ to, route, text }: { readonly to: Section; readonly route: Route; readonly text: string }) {
  const here = route.page === to ? 'page' : SECTIONS[route.page] === to ? 'true' : undefined;
  return (
    <a href={hrefOf({ page: to })} {...(here === undefined ? {} : { 'aria-current': here })}>
      {text}
    </a>
  );
}

function Who() {
  const { me } = useSession();
  const server = useServer();
  if (me === null) return null;
  return (
    <span class="who">
      {me.authenticated ? printable(me.name) : 'local'} <span class="who-role">{me.role}</span>
      {me.authenticated && (
        <button type="button" class="link-button" onClick={() => server.signOut()}>
          Sign out
        </button>
      )}
    </span>
  );
}

function Page({ route }: { readonly route: Route }) {
  switch (route.page) {
    case 'fleet':
      return <FleetPage />;
    case 'host':
      return <HostPage host={route.host} />;
    case 'evacuate':
      return <EvacuatePage host={route.host} />;
    case 'operations':
      return <OperationsPage />;
    case 'operation':
      return <OperationPage id={route.id} />;
    case 'migration':
      return <MigrationPage id={route.id} />;
    case 'whatIf':
      return <WhatIfPage vm={route.vm} />;
    case 'rebalance':
      return <RebalancePage />;
    case 'audit':
      return <AuditPage />;
    case 'unknown':
      return (
        <>
          <PageHead title="No such page" />
          <Empty title={`There is nothing at ${printable(route.path)}.`}>
            <a href="#/">To the fleet</a>
          </Empty>
        </>
      );
  }
}

function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(window.location.hash));
  useEffect(() => {
    const changed = (): void => setRoute(parseRoute(window.location.hash));
    window.addEventListener('hashchange', changed);
    return () => window.removeEventListener('hashchange', changed);
  }, []);
  const first = useRef(true);
  useEffect(() => {
    // A new page begins at its title, for those who listen to it too.
    if (first.current) first.current = false;
    else {
      window.scrollTo(0, 0);
      document.querySelector<HTMLElement>('main h1')?.focus({ preventScroll: true });
    }
  }, [route]);
  return route;
}

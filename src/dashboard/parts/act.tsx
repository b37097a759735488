/** A button that does something at the server, after asking where that is wise; what came of it is said. */
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { useServer } from '../net/hooks.ts';
import type { ControlOutcome } from '../net/types.ts';
import { useAnnounce } from './announce.tsx';
import { Confirm } from './dialog.tsx';

export interface Action {
  readonly text: string;
  readonly path: string;
  readonly body?: unknown;
  readonly title: string;
  readonly danger?: boolean;
  readonly primary?: boolean;
  readonly children?: ComponentChildren;
}

export function ActionButton({ action, onDone }: { readonly action: Action; readonly onDone: () => void }) {
  const server = useServer();
  const announce = useAnnounce();
  const [asking, setAsking] = useState(false);
  const act = async (): Promise<void> => {
    const outcome = await server.request<ControlOutcome>('POST', action.path, action.body ?? {});
    announce(outcome.message);
    onDone();
  };
  return (
    <>
      <button
        type="button"
        class={`button ${action.danger === true ? 'danger-quiet' : action.primary === true ? 'primary' : ''}`}
        onClick={() => setAsking(true)}
      >
        {action.text}
      </button>
      {asking && (
        <Confirm
          title={action.title}
          action={action.text}
          danger={action.danger === true}
          onConfirm={act}
          onClose={() => setAsking(false)}
        >
          {action.children}
        </Confirm>
      )}
    </>
  );
}

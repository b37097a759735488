/** Asks before something is done. The browser's own modal dialog: it holds the focus, Escape closes it. */
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { asError } from '../net/problem.ts';
import { Problem } from './small.tsx';

export function Confirm({
  title,
  action,
  danger = false,
  children,
  onConfirm,
  onClose,
}: {
  readonly title: string;
  /** On the button that does it. */
  readonly action: string;
  readonly danger?: boolean;
  readonly children?: ComponentChildren;
  readonly onConfirm: () => Promise<void>;
  readonly onClose: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Error | null>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const confirm = async (): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await onConfirm();
      dialog.current?.close();
    } catch (error) {
      setProblem(asError(error));
      setBusy(false);
    }
  };
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby={`${id}-title`} onClose={onClose}>
      <h2 id={`${id}-title`}>{title}</h2>
      <div class="dialog-body">{children}</div>
      <Problem problem={problem} />
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          Back
        </button>
        <button
          type="button"
          class={`button ${danger ? 'danger' : 'primary'}`}
          disabled={busy}
          onClick={() => void confirm()}
        >
          {action}
        </button>
      </div>
    </dialog>
  );
}

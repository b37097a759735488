/** Asks for a token. It stays in this tab and goes to the server in a header. */
import { useRef, useState } from 'preact/hooks';
import { useServer } from '../net/hooks.ts';
import { readToken } from '../net/session.ts';
import { PageHead } from '../parts/small.tsx';

export function SignIn() {
  const server = useServer();
  const field = useRef<HTMLInputElement>(null);
  const [wrong, setWrong] = useState(readToken() !== null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const token = field.current?.value.trim() ?? '';
    if (token === '') return;
    setBusy(true);
    await server.signIn(token);
    setBusy(false);
    setWrong(server.refused);
    if (server.refused) field.current?.select();
  };
  return (
    <div class="narrow">
      <PageHead title="Sign in">
        <p class="lead">
          This server wants a token. An admin makes one with <code>hostevac token create</code>. It is kept in this tab
          only.
        </p>
      </PageHead>
      <form class="card form" onSubmit={(event) => void submit(event)}>
        <label class="field">
          <span>Token</span>
          <input
            ref={field}
            type="password"
            autoComplete="off"
            spellcheck={false}
            required
            aria-describedby="token-wrong"
          />
        </label>
        <p id="token-wrong" class="field-wrong" role="alert">
          {wrong ? 'The server does not take this token: it is mistyped, expired or revoked.' : ''}
        </p>
        <button type="submit" class="button primary" disabled={busy}>
          Sign in
        </button>
      </form>
    </div>
  );
}

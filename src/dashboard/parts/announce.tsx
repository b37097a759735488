/** What changed, said aloud to those who do not see it: one polite region for the whole page. */
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';

export type Announce = (text: string) => void;
export const AnnounceContext = createContext<Announce>(() => undefined);
export const useAnnounce = (): Announce => useContext(AnnounceContext);

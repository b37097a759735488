// A policy of one's own, as a fleet file names it:
//
//   policies: [{ name: gentle-nights, module: ./gentle-nights.mjs }]
//
// and a request uses it: hostevac evacuate node-a --policy gentle-nights. What a module has to be: docs/policies.md.

const GENTLE = 0.7;
const SURE = 0.9;

export default {
  name: 'gentle-nights',
  what: `For moves that nobody waits for. In the first half of its time a guest is not slowed below 70%, however long that
takes; in the second half it is slowed as little as brings it to an end in time.`,

  // What is not said here is as in the preset "maintenance"; a request may override each.
  requirements: { aggression: 0, minCpu: 0.3, maxTime: '30m', atDeadline: 'abort' },

  // Pure: what is known comes in, one of the candidates goes out. They stand by descending share, the first runs free.
  choose({ candidates, elapsedMs, timeLeftMs }) {
    const inTime = candidates.filter(({ endsInTime }) => endsInTime >= SURE);
    const gentlest = inTime[0];
    if (gentlest !== undefined && gentlest.share >= GENTLE) {
      return { candidate: gentlest, why: 'ends in time and slows the guest by 30% at most' };
    }
    if (elapsedMs < timeLeftMs) {
      return { candidate: candidates[0], why: 'more than half of the time is left: it may become quieter by itself' };
    }
    if (gentlest !== undefined) {
      return { candidate: gentlest, why: 'half of the time is over: the gentlest that still ends in time' };
    }
    const last = candidates[candidates.length - 1];
    return { candidate: last, why: 'nothing is sure to end in time: as fast as the floor allows' };
  },
};

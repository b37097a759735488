# The program and its dashboard, built; then only what they need to run. One image for the API and all workers.
FROM node:20.19.5-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# `prepare` builds, which needs the sources.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run build

FROM node:20.19.5-bookworm-slim AS packages
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:20.19.5-bookworm-slim
ENV NODE_ENV=production
WORKDIR /opt/hostevac
COPY --from=packages /src/node_modules ./node_modules
COPY --from=build /src/dist ./dist
COPY package.json README.md CHANGELOG.md LICENSE ./
COPY docs/examples ./docs/examples
USER 1000:1000
ENTRYPOINT ["node", "/opt/hostevac/dist/src/cli/main.js"]
CMD ["--help"]

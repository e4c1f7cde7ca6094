// The API's pages: Swagger UI on our own document.
const place = document.getElementById("api");

// A signed-in browser's cookie counts only with its CSRF token.
function withCsrfToken(request) {
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
  if (token && !["GET", "HEAD"].includes(request.method)) request.headers["X-CSRFToken"] = token[1];
  return request;
}

window.SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  filter: true,
  // Nothing is sent to anybody else: Swagger's own validator badge would be.
  validatorUrl: null,
  requestInterceptor: withCsrfToken,
});

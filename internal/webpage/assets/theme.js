// Sets the chosen colours before anything is drawn; so it is no module, which would come later.
try {
  const theme = localStorage.getItem("pushrelay-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* a browser that keeps nothing follows the system */ }

import { Component, type ReactNode } from 'react';

/** Says that something is broken, where React would leave an empty page. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <p role="alert" className="problem">
        This did not work. Reload the page to try again.
      </p>
    );
  }
}

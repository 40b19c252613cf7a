import Document, { Head, Html, Main, NextScript } from 'next/document';

export default class Page extends Document {
  static async getInitialProps(context) {
    const props = await Document.getInitialProps(context);
    return { ...props, nonce: context.req?.headers['x-nonce'] };
  }

  render() {
    const { nonce } = this.props;
    return (
      <Html lang="en">
        <Head nonce={nonce} />
        <body>
          <Main />
          <NextScript nonce={nonce} />
        </body>
      </Html>
    );
  }
}
